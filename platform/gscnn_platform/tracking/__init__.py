"""One MLflow run per training run, and nothing of it lost. The only package that imports mlflow.

The driver creates the run; from then on all that is tracked goes through the run's outbox, a folder beside its
checkpoints: rank 0 writes metrics and pictures to it, the driver the best model and how the run ended. What is in the
outbox is delivered in the background, in order and once, whenever the server answers; `jobs.sync-tracking` delivers
what is left when the run is over.
"""

from gscnn_platform.tracking.delivery import CHECKPOINT
from gscnn_platform.tracking.journal import HeldError, TrackingError
from gscnn_platform.tracking.outbox import Left, Outbox, left_in
from gscnn_platform.tracking.runs import (
    checkpoint_of_run,
    close_run,
    create_run,
    is_run_id,
    log_best,
    log_best_scores,
    log_evaluation,
    reopen_run,
    tracking_uri,
    ui_command,
)
from gscnn_platform.tracking.sync import deliver, sync
from gscnn_platform.tracking.writer import RunWriter

__all__ = [
    "CHECKPOINT",
    "HeldError",
    "Left",
    "Outbox",
    "RunWriter",
    "TrackingError",
    "checkpoint_of_run",
    "close_run",
    "create_run",
    "deliver",
    "is_run_id",
    "left_in",
    "log_best",
    "log_best_scores",
    "log_evaluation",
    "reopen_run",
    "sync",
    "tracking_uri",
    "ui_command",
]
