"""Outboxes that are delivered to MLflow, which is imported when the first entry is sent."""

from gscnn_platform.runs.ref import RunRef
from gscnn_platform.tracking.outbox.journal import Journal, open_part
from gscnn_platform.tracking.outbox.outbox import Delivery, Outbox, Say, silent


def open_outbox(run: RunRef, say: Say = silent) -> Outbox:
    """The outbox of a run, made where it is missing; delivers nothing before `start`.

    Raises:
        TrackingError: the folder holds another run's.
        OSError: the folder cannot be written.
    """
    return Outbox(open_part(run), to_mlflow, say)


def to_mlflow(journal: Journal) -> Delivery:
    """Delivers a journal to its run in MLflow."""
    # MLflow takes 4 s of a core to import: not before a run's first steps, which an outbox's thread would slow.
    from gscnn_platform.tracking.delivery import MLflowDelivery

    return MLflowDelivery(journal)
