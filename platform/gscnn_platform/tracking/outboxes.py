"""Outboxes that are delivered to MLflow, which is imported when the first entry is sent."""

from pathlib import Path

from gscnn_platform.tracking.outbox.journal import Journal, open_part
from gscnn_platform.tracking.outbox.outbox import Delivery, Outbox, Say, silent
from gscnn_platform.tracking.outbox.parts import Address


def open_outbox(folder: str | Path, uri: str, run_id: str, say: Say = silent) -> Outbox:
    """The outbox of a run in `folder`, made where it is missing; delivers nothing before `start`.

    Raises:
        TrackingError: the folder holds another run's.
        OSError: the folder cannot be written.
    """
    return Outbox(open_part(Path(folder).absolute(), Address(uri, run_id)), to_mlflow, say)


def to_mlflow(journal: Journal) -> Delivery:
    """Delivers a journal to its run in MLflow."""
    # MLflow takes 4 s of a core to import: not before a run's first steps, which an outbox's thread would slow.
    from gscnn_platform.tracking.delivery import MLflowDelivery

    return MLflowDelivery(journal)
