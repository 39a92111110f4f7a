from .creating import create_run
from .deleted import (
    REPLACES,
    DeletedError,
    fate_of,
    move_to,
    needs_new_run,
    start_time_of,
)
from .delivery import CHECKPOINT
from .description import markdown_table
from .inspections import log_inspection
from .keys import key_of
from .models import check_checkpoint, find_checkpoint, find_model
from .outbox.errors import HeldError, TrackingError
from .outbox.folders import make_way
from .outbox.left import Left, left_in
from .outbox.outbox import Outbox
from .outboxes import open_outbox
from .reading import PARENT, SWEEP, TrackedRun, children, find_run, look_at, picture, read_run
from .runs import (
    checkpoint_of_run,
    close_run,
    log_best,
    log_best_scores,
    log_evaluation,
    reopen_run,
)
from .sweeps import (
    ALIAS,
    OVERRIDES,
    VARIANT,
    VARIANTS,
    create_sweep,
    register,
    run_of_model,
    set_tags,
    trial_tags,
)
from .sync import deliver, sync
from .uri import MODELS, artifact_link, artifact_picture, check_named_uri, is_run_id, tracking_uri, ui_command
from .weight_runs import find_run_of_file, run_of_file
from .writer import RunWriter

__all__ = [
    "ALIAS",
    "CHECKPOINT",
    "MODELS",
    "OVERRIDES",
    "PARENT",
    "REPLACES",
    "SWEEP",
    "VARIANT",
    "VARIANTS",
    "DeletedError",
    "HeldError",
    "Left",
    "Outbox",
    "RunWriter",
    "TrackedRun",
    "TrackingError",
    "artifact_link",
    "artifact_picture",
    "check_checkpoint",
    "check_named_uri",
    "checkpoint_of_run",
    "children",
    "close_run",
    "create_run",
    "create_sweep",
    "deliver",
    "fate_of",
    "find_checkpoint",
    "find_model",
    "find_run",
    "find_run_of_file",
    "is_run_id",
    "key_of",
    "left_in",
    "log_best",
    "log_best_scores",
    "log_evaluation",
    "log_inspection",
    "look_at",
    "make_way",
    "markdown_table",
    "move_to",
    "needs_new_run",
    "open_outbox",
    "picture",
    "read_run",
    "register",
    "reopen_run",
    "run_of_file",
    "run_of_model",
    "set_tags",
    "start_time_of",
    "sync",
    "tracking_uri",
    "trial_tags",
    "ui_command",
]
