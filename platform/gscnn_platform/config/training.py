"""Length, batches, arithmetic and checkpoints of a training."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from gscnn.config import Execution
from gscnn_platform.config.base import Config
from gscnn_platform.scores import SCORES

if TYPE_CHECKING:
    # Type checkers know no Literal whose names are computed.
    Metric = str
else:
    Metric = Literal[tuple(score.key for score in SCORES if score.can_be_best)]
"""Key of a validation score by which a best checkpoint may be chosen."""


class TrainingConfig(Config):
    """How long, in which batches and in which arithmetic."""

    epochs: int = Field(default=175, ge=1)
    """Passes over the training split (released code: 175)."""
    batch_size: int = Field(default=16, ge=1)
    """Images per optimizer step over all workers and accumulated batches (paper: 16; released code: 8, 1 a GPU)."""
    accumulate: int = Field(default=1, ge=1)
    """Batches whose gradients are added up before a step."""
    precision: Literal["float32", "bf16"] = "float32"
    """Arithmetic of the forward pass; bf16 means autocast, with losses in float32."""
    channels_last: bool = True
    """Whether weights and images lie in torch's channels_last memory format."""
    compile: Execution[bool] = False
    """torch.compile of the model: minutes at the start, faster steps on a GPU."""
    sync_bn: bool = False
    """Batch norm statistics over all workers; GPU only."""
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Decay per step of an average of the weights, which is then what is validated and saved; None: no average."""
    best_metric: Metric = "miou"
    """Validation score whose highest value makes a checkpoint the best."""
    validate_at_start: Execution[bool] = True
    """Whether to validate the untrained model, as epoch 0; off in sweeps, unless asked for."""
    validate_every: int = Field(default=1, ge=1)
    """Epochs from one validation and checkpoint to the next; the last epoch has one in any case."""
    log_every: Execution[int] = Field(default=10, ge=1)
    """Optimizer steps from one progress line to the next; metrics have a value for every step."""
    pictures: Execution[int] = Field(default=4, ge=0)
    """Validation samples, always the same, drawn at each validation."""
    checkpoint_minutes: Execution[float | None] = Field(default=10.0, gt=0)
    """Minutes from one checkpoint to the next within an epoch; None: at validations only."""
    checkpoint_steps: Execution[int | None] = Field(default=None, ge=1)
    """Optimizer steps from one checkpoint to the next within an epoch; None: by minutes alone."""
    max_failures: Execution[int] = Field(default=3, ge=0)
    """Times that a run starts its workers again, from its last checkpoint, after one of them died."""
    collective_timeout_minutes: Execution[float] = Field(default=30.0, gt=0)
    """Minutes that workers wait for one that is alive and silent, as while it fills its cache from a slow store; then
    all start again."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """What a NaN or infinite loss or gradient does: end the run at that step, or leave the step's update out."""
    max_skipped: int = Field(default=10, ge=1)
    """Updates that `on_nonfinite` skip leaves out in a run, at most."""
