"""What can be configured: ExperimentConfig and its parts. Each field's unit and source stand in the line below it.

The model's and the losses' configs are defined beside them, in gscnn.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gscnn.edges import GradientMethod
from gscnn.losses import LossConfig
from gscnn.model import ModelConfig

Metric = Literal["miou", "pixel_accuracy", "boundary_f_3px", "boundary_f_5px", "boundary_f_9px", "boundary_f_12px"]
"""Validation scores that a best checkpoint may be chosen by, of 0 to 1."""

EXECUTION: Final = {
    "run_name",
    "store",
    "storage",
    "num_workers",
    "min_workers",
    "use_gpu",
    "cpus_per_worker",
    "wait_for_nodes",
    "resume",
    "model.activation_checkpointing",
    "data.loader_processes",
    "data.eval_batch_size",
    "data.cache.folder",
    "data.cache.gigabytes",
    "training.compile",
    "training.validate_at_start",
    "training.log_every",
    "training.pictures",
    "training.checkpoint_minutes",
    "training.checkpoint_steps",
    "training.max_failures",
    "training.collective_timeout_minutes",
    "tracking.uri",
    "tracking.experiment",
    "tracking.system_metrics",
}
"""Fields that say how a run is carried out, not what it computes: it may go on under others, and none is searched."""


class Config(BaseModel):
    """Base of all configs: values cannot be changed after the start, and unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EdgeConfig(Config):
    """Edge prior and edge label of a store. Part of its fingerprint."""

    gradient: GradientMethod = "canny"
    """Edge prior that the shape stream reads (gscnn.edges.image_gradient)."""
    radius: int = Field(default=2, ge=1, le=32)
    """Distance in pixels up to which another class makes a pixel a boundary (released code: 2)."""
    void_edges: bool = False
    """Whether void and the frame count as a class of their own, as in the released code."""


class AugmentationConfig(Config):
    """Joint augmentation of image, label and edge prior. Probabilities lie in [0, 1]."""

    crop: tuple[int, int] = (720, 720)
    """Height and width of the training crop in pixels (released code: 720 x 720)."""
    scale: tuple[float, float] = (0.5, 2.0)
    """Range of the random resize, uniform (released code: 0.5 to 2)."""
    flip: float = Field(default=0.5, ge=0, le=1)
    """Probability of a horizontal flip."""
    colour_jitter: float = Field(default=0.25, ge=0, le=1)
    """Strength of brightness, contrast and saturation jitter; hue takes a fifth of it (released code: 0.25)."""
    blur: float = Field(default=0.5, ge=0, le=1)
    """Probability of a Gaussian blur of sigma up to 1.15 pixels."""

    @model_validator(mode="after")
    def _sane(self) -> Self:
        if min(self.crop) < 32:
            raise ValueError(f"crop is {self.crop}: a side needs 32 pixels or more")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale is {self.scale}: need 0 < smallest <= largest")
        return self


class OptimizerConfig(Config):
    """SGD with momentum under a polynomial schedule, stepped per optimizer step."""

    lr: float = Field(default=0.01, gt=0)
    """Learning rate at the start, before `lr_scaling` (released code: 0.01 for 16 images a step)."""
    lr_scaling: Literal["linear", "sqrt"] | None = None
    """How the learning rate grows with `training.batch_size / lr_base_batch`: in proportion (arXiv:1706.02677) or with
    its square root (arXiv:1404.5997); None: not at all."""
    lr_base_batch: int = Field(default=16, ge=1)
    """Images a step that `lr` was chosen for; read where `lr_scaling` is set."""
    warmup_epochs: float = Field(default=0.0, ge=0)
    """Epochs in which the learning rate rises from next to 0 to its schedule, by the same part at each step; 5 where
    `lr_scaling` raises it much (arXiv:1706.02677, section 2.2)."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum (released code: 0.9)."""
    nesterov: bool = False
    """Nesterov's form of momentum."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """L2 penalty (released code: 1e-4)."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Largest norm of all gradients together, to which longer ones are scaled down; None: no clipping."""
    poly_power: float = Field(default=1.0, ge=0)
    """Exponent of lr * (1 - step / steps) ** power (released code: 1)."""

    def scaled_lr(self, batch_size: int) -> float:
        """`lr` for so many images a step, as `lr_scaling` has it."""
        if self.lr_scaling is None:
            return self.lr
        growth = batch_size / self.lr_base_batch
        return self.lr * (growth if self.lr_scaling == "linear" else growth**0.5)

    def describe_lr(self, batch_size: int) -> str:
        """`learning rate 0.04 (0.01 for 16 images, linear), warm-up over epochs: 5`, for people."""
        how = f" ({self.lr:g} for {self.lr_base_batch} images, {self.lr_scaling})" if self.lr_scaling else ""
        rises = f", warm-up over epochs: {self.warmup_epochs:g}" if self.warmup_epochs else ""
        return f"learning rate {self.scaled_lr(batch_size):g}{how}{rises}"


class TrainingConfig(Config):
    """How long, in which batches and in which arithmetic."""

    epochs: int = Field(default=175, ge=1)
    """Passes over the training split (released code: 175)."""
    batch_size: int = Field(default=16, ge=1)
    """Images per optimizer step over all workers and accumulated batches (released code: 16)."""
    accumulate: int = Field(default=1, ge=1)
    """Batches whose gradients are added up before a step."""
    precision: Literal["float32", "bf16"] = "float32"
    """Arithmetic of the forward pass; bf16 means autocast, with losses in float32."""
    channels_last: bool = True
    """Whether weights and images lie in torch's channels_last memory format."""
    compile: bool = False
    """torch.compile of the model: minutes at the start, faster steps on a GPU."""
    sync_bn: bool = False
    """Batch norm statistics over all workers; GPU only."""
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Decay per step of an average of the weights, which is then what is validated and saved; None: no average."""
    best_metric: Metric = "miou"
    """Validation score whose highest value makes a checkpoint the best."""
    validate_at_start: bool = True
    """Whether to validate the untrained model, as epoch 0; a sweep's trials do not."""
    validate_every: int = Field(default=1, ge=1)
    """Epochs from one validation and checkpoint to the next; the last epoch has one in any case."""
    log_every: int = Field(default=10, ge=1)
    """Optimizer steps from one progress line to the next; metrics have a value for every step."""
    pictures: int = Field(default=4, ge=0)
    """Validation samples, always the same, drawn at each validation."""
    checkpoint_minutes: float | None = Field(default=10.0, gt=0)
    """Minutes from one checkpoint to the next within an epoch; None: at validations only."""
    checkpoint_steps: int | None = Field(default=None, ge=1)
    """Optimizer steps from one checkpoint to the next within an epoch; None: by minutes alone."""
    max_failures: int = Field(default=3, ge=0)
    """Times that a run starts its workers again, from its last checkpoint, after one of them died."""
    collective_timeout_minutes: float = Field(default=30.0, gt=0)
    """Minutes that workers wait for one that is alive and silent, as while it fills its cache from a slow store; then
    all start again."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """What a NaN or infinite loss or gradient does: end the run at that step, or leave the step's update out."""
    max_skipped: int = Field(default=10, ge=1)
    """Updates that `on_nonfinite` skip leaves out in a run, at most."""


class CacheConfig(Config):
    """Where a node keeps the parts of a store that is read by URI, for all that runs on it."""

    folder: str | None = None
    """Folder on the node's own disk; None: $XDG_CACHE_HOME/gscnn, or ~/.cache/gscnn."""
    gigabytes: float = Field(default=100.0, ge=0)
    """Size up to which parts are kept; those beyond it are read from the store, row by row."""


class DataConfig(Config):
    """What a run expects of its store, and how its workers read it."""

    edges: EdgeConfig = EdgeConfig()
    """Edge settings that the store must have been built with."""
    boundary_radius: int | None = Field(default=None, ge=1, le=32)
    """Radius of the edge label in training, which is derived after augmentation, in pixels; None: `edges.radius`."""
    fingerprint: str | None = None
    """Fingerprint that the store must have; None takes any. MLflow shows the one that was used."""
    train_split: str = "train"
    """Split to train on."""
    val_split: str = "val"
    """Split to validate on."""
    loader_processes: int = Field(default=0, ge=0)
    """Processes a worker reads with; 0 reads in the worker itself, best where cores are few."""
    eval_batch_size: int = Field(default=1, ge=1)
    """Whole images of one size per validation batch, at most."""
    cache: CacheConfig = CacheConfig()

    @property
    def training_edges(self) -> EdgeConfig:
        """How training derives the edge label; the edge prior is the store's."""
        return self.edges.model_copy(update={"radius": self.boundary_radius or self.edges.radius})


_PASSWORD: Final = re.compile(r"^(https?://).*@|^([^/]+://)[^@/]*:.*@")
"""A URI up to the end of its password, or of a user's name where that may be a token."""


def has_password(uri: str) -> bool:
    """Whether a URI carries a password, or a user's name where that may be a token."""
    return _PASSWORD.match(uri) is not None


class TrackingConfig(Config):
    """Where the run is tracked."""

    uri: str | None = None
    """MLflow tracking URI without user and password; None: MLFLOW_TRACKING_URI where it is set, else SQLite in the
    storage folder."""
    experiment: str = "gscnn"
    """MLflow experiment."""
    system_metrics: bool = True
    """Log CPU, memory and GPU use."""

    @field_validator("uri")
    @classmethod
    def _without_password(cls, uri: str | None) -> str | None:
        if uri is not None and has_password(uri):
            raise ValueError(
                "tracking.uri carries a user or a password, which logs and MLflow would show: give them by "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or in ~/.mlflow/credentials (deploy/mlflow.md)"
            )
        return uri

    @field_validator("uri", mode="before")
    @classmethod
    def _hidden(cls, uri: Any) -> Any:
        # pydantic's error repeats what the check above was given.
        return _PASSWORD.sub(r"\1\2***:***@", uri) if isinstance(uri, str) else uri


class ExperimentConfig(Config):
    """One training run, whole."""

    name: str
    """Name of the recipe."""
    run_name: str | None = None
    """Name of the run and of its folder; None: an unfinished run of the same settings and data, else the recipe's name
    and the time."""
    resume: bool = True
    """Whether to go on with a run that died or was stopped; `--no-resume` starts anew."""
    store: str | None = None
    """Folder that jobs.precompute wrote, a path or URI."""
    storage: str | None = None
    """Where checkpoints go: a path or URI that all workers reach; None: ./runs, or ~/gscnn-runs in a submitted job."""
    num_workers: int = Field(default=1, ge=1)
    """Processes that train together; one GPU each where there are GPUs."""
    min_workers: int | None = Field(default=None, ge=1)
    """Workers that are enough to go on with where nodes are lost; None: all, so that the run waits for them."""
    use_gpu: bool | None = None
    """Whether workers train on GPUs; None: where the cluster has any."""
    cpus_per_worker: int | None = Field(default=None, ge=1)
    """CPU cores reserved for each worker; None: as many as let all workers fit on the nodes, or on GPUs its GPU's share
    of its node's cores."""
    wait_for_nodes: bool = False
    """On an autoscaling cluster: wait for nodes that are not there yet rather than refuse."""
    seed: int = Field(default=0, ge=0)
    """Start of all randomness: weights, order of samples, augmentation."""
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    data: DataConfig = DataConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.model.architecture == "deeplabv3plus" and (self.loss.edge or self.loss.attention):
            raise ValueError(
                f"loss.edge is {self.loss.edge} and loss.attention is {self.loss.attention}, but deeplabv3plus "
                "has no edge logits: set both to 0"
            )
        if self.min_workers is not None and self.min_workers > self.num_workers:
            raise ValueError(f"min_workers {self.min_workers} is more than num_workers {self.num_workers}")
        if self.optimizer.warmup_epochs >= self.training.epochs:
            raise ValueError(
                f"optimizer.warmup_epochs {self.optimizer.warmup_epochs:g} does not end within training.epochs "
                f"{self.training.epochs}: choose fewer"
            )
        needed = 1 if self.training.sync_bn and self.num_workers > 1 else 2
        if self.images_per_batch < needed:
            shares = self.num_workers * self.training.accumulate
            raise ValueError(
                f"training.batch_size {self.training.batch_size} leaves {self.images_per_batch} images to each of "
                f"num_workers {self.num_workers} x training.accumulate {self.training.accumulate} batches; the pooled "
                f"ASPP branch normalises over a batch and needs 2, or training.sync_bn over several workers and 1: "
                f"choose {needed * shares} or more"
            )
        return self

    @property
    def images_per_batch(self) -> int:
        """Images of one worker's forward pass; some have one more where the workers' number does not divide them."""
        return self.training.batch_size // (self.num_workers * self.training.accumulate)

    def learning_rate(self, step: int, steps_per_epoch: int) -> float:
        """Of the optimizer step that follows `step` others: polynomial to 0 after the last, below that in the warm-up.

        A pure function of the step, so that a run that goes on needs no state of it.
        """
        optimizer = self.optimizer
        lr = optimizer.scaled_lr(self.training.batch_size)
        lr *= (1 - step / (steps_per_epoch * self.training.epochs)) ** optimizer.poly_power
        warmup = optimizer.warmup_epochs * steps_per_epoch
        return lr * (step + 1) / warmup if step + 1 < warmup else lr


def with_overrides(config: ExperimentConfig, overrides: Mapping[str, Any]) -> ExperimentConfig:
    """A copy of `config` with values at dotted keys replaced: `{"loss.edge": 20, "optimizer.lr": 0.01}`.

    Raises:
        KeyError: a key that the config does not have.
        pydantic.ValidationError: a value that the field refuses.
    """
    tree = config.model_dump()
    for key, value in overrides.items():
        *parents, leaf = key.split(".")
        node: Any = tree
        for name in parents:
            node = node.get(name) if isinstance(node, dict) else None
        if not isinstance(node, dict) or leaf not in node:
            raise KeyError(f"{key!r} is no field of {type(config).__name__}")
        node[leaf] = value
    return type(config).model_validate(tree)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level of dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
