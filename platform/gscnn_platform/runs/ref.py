"""What a run is tracked by."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunRef:
    """An MLflow run, and the outbox from which it gets its entries."""

    outbox: Path
    """Folder on a disk of this machine or of all machines; there may be none yet."""
    tracking_uri: str
    run_id: str
    """MLflow's."""
