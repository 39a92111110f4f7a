"""One MLflow run per training run, and nothing of it lost. The only package that imports mlflow.

The driver creates the run; from then on all that is tracked goes through the run's outbox, a folder beside its
checkpoints: rank 0 writes metrics and pictures to it, the driver the best model and how the run ended. What is in the
outbox is delivered in the background, in order and once, whenever the server answers; `jobs.sync-tracking` delivers
what is left when the run is over.
"""

from gscnn_platform.tracking.delivery import CHECKPOINT, artifact_link
from gscnn_platform.tracking.journal import HeldError, TrackingError
from gscnn_platform.tracking.outbox import Left, Outbox, left_in
from gscnn_platform.tracking.reading import SWEEP, TrackedRun, children, find_run, picture, read_run
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
from gscnn_platform.tracking.sweeps import (
    ALIAS,
    MODELS,
    OVERRIDES,
    VARIANT,
    VARIANTS,
    create_sweep,
    register,
    run_of_model,
    set_tags,
    trial_tags,
)
from gscnn_platform.tracking.sync import deliver, sync
from gscnn_platform.tracking.writer import RunWriter

__all__ = [
    "ALIAS",
    "CHECKPOINT",
    "MODELS",
    "OVERRIDES",
    "SWEEP",
    "VARIANT",
    "VARIANTS",
    "HeldError",
    "Left",
    "Outbox",
    "RunWriter",
    "TrackedRun",
    "TrackingError",
    "artifact_link",
    "checkpoint_of_run",
    "children",
    "close_run",
    "create_run",
    "create_sweep",
    "deliver",
    "find_run",
    "is_run_id",
    "left_in",
    "log_best",
    "log_best_scores",
    "log_evaluation",
    "picture",
    "read_run",
    "register",
    "reopen_run",
    "run_of_model",
    "set_tags",
    "sync",
    "tracking_uri",
    "trial_tags",
    "ui_command",
]
