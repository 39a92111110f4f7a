"""The reference to a run's tracking: its MLflow run and its outbox."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunRef:
    """An MLflow run, and the outbox whose entries are delivered to it."""

    outbox: Path
    """Folder on a local or shared disk; it need not exist yet."""
    tracking_uri: str
    run_id: str
    """MLflow run id."""
