"""Opens outboxes that are delivered to MLflow, which is imported when the first entry is sent."""

from gscnn_platform.runs.ref import RunRef
from gscnn_platform.tracking.outbox.journal import Journal, open_part
from gscnn_platform.tracking.outbox.outbox import Delivery, Outbox, Say, silent


def open_outbox(run: RunRef, say: Say = silent) -> Outbox:
    """Returns the outbox of a run; created if it is missing. Delivery begins with `start`.

    Raises:
        TrackingError: the folder holds the outbox of another run.
        OSError: the folder cannot be written.
    """
    return Outbox(open_part(run), to_mlflow, say)


def to_mlflow(journal: Journal) -> Delivery:
    """Returns the delivery of a journal to its run in MLflow."""
    # Importing MLflow takes 4 s of a core: in the outbox's thread it would slow a run's first steps.
    from gscnn_platform.tracking.delivery import MLflowDelivery

    return MLflowDelivery(journal)
