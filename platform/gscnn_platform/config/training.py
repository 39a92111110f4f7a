"""The config of a training: length, batches, precision and checkpoints."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from gscnn.config import Execution
from gscnn_platform.config.base import Config
from gscnn_platform.scores import SCORES

if TYPE_CHECKING:
    # Type checkers do not accept a Literal with computed names.
    Metric = str
else:
    Metric = Literal[tuple(score.key for score in SCORES if score.can_be_best)]
"""Key of a validation score by which a best checkpoint may be chosen."""


class TrainingConfig(Config):
    """Length, batches, precision and checkpoints."""

    epochs: int = Field(default=175, ge=1)
    """Passes over the training split (released code: 175)."""
    batch_size: int = Field(default=16, ge=1)
    """Images per optimizer step over all workers and accumulated batches (paper: 16; released code: 8, 1 per GPU)."""
    accumulate: int = Field(default=1, ge=1)
    """Batches whose gradients are accumulated before a step."""
    precision: Literal["float32", "bf16"] = "float32"
    """Precision of the forward pass; bf16 means autocast, with losses in float32."""
    channels_last: bool = True
    """Use torch's channels_last memory format for weights and images."""
    compile: Execution[bool] = False
    """Compile the model with torch.compile: takes minutes at the start, and speeds up steps on a GPU."""
    sync_bn: bool = False
    """Synchronize batch norm statistics over all workers; GPU only."""
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Decay per step of the exponential moving average of the weights, which is then validated and saved; None: no
    average."""
    best_metric: Metric = "miou"
    """Validation score that selects the best checkpoint; higher is better."""
    validate_at_start: Execution[bool] = True
    """Whether to validate the untrained model, as epoch 0; off in sweeps, unless set."""
    validate_every: int = Field(default=1, ge=1)
    """Epochs between validations, each with a checkpoint; the last epoch is always validated."""
    log_every: Execution[int] = Field(default=10, ge=1)
    """Optimizer steps between progress lines; metrics have a value for every step."""
    pictures: Execution[int] = Field(default=4, ge=0)
    """Number of validation samples to log as pictures at each validation, always the same ones."""
    checkpoint_minutes: Execution[float | None] = Field(default=10.0, gt=0)
    """Minutes between checkpoints within an epoch; None: at validations only."""
    checkpoint_steps: Execution[int | None] = Field(default=None, ge=1)
    """Optimizer steps between checkpoints within an epoch; None: by minutes only."""
    max_failures: Execution[int] = Field(default=3, ge=0)
    """Maximum number of restarts from the last checkpoint after a worker fails."""
    collective_timeout_minutes: Execution[float] = Field(default=30.0, gt=0)
    """Minutes that workers wait for an unresponsive worker, such as one that fills its cache from a slow store; then
    all workers restart."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """On a NaN or infinite loss or gradient: stop the run at that step, or skip the step's update."""
    max_skipped: int = Field(default=10, ge=1)
    """Maximum number of updates per run that `--training.on-nonfinite skip` may skip."""
