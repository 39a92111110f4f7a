"""The whole config of a training run."""

from typing import Self

from pydantic import Field, model_validator

from gscnn.architectures import ARCHITECTURES
from gscnn.config import Execution, LossConfig, ModelConfig
from gscnn_platform.config.augmentation import AugmentationConfig
from gscnn_platform.config.base import Config
from gscnn_platform.config.data import DataConfig
from gscnn_platform.config.init import InitConfig
from gscnn_platform.config.optimizer import OptimizerConfig
from gscnn_platform.config.tracking import TrackingConfig
from gscnn_platform.config.training import TrainingConfig


class ExperimentConfig(Config):
    """The whole config of a training run."""

    name: str
    """Name of the recipe."""
    run_name: Execution[str | None] = None
    """Name of the run and of its folder; None: an unfinished run of the same settings and data, else the recipe's name
    and the time."""
    resume: Execution[bool] = True
    """Whether to resume a run that crashed or was stopped; `--no-resume` starts a new run."""
    store: Execution[str | None] = None
    """Folder that jobs.precompute wrote, a path or URI."""
    storage: Execution[str | None] = None
    """Folder of runs, for checkpoints: a path or URI that all workers can reach; None: ./runs, or ~/gscnn-runs in a
    submitted job."""
    num_workers: Execution[int] = Field(default=1, ge=1)
    """Number of training processes; one GPU each if there are GPUs."""
    min_workers: Execution[int | None] = Field(default=None, ge=1)
    """Minimum number of workers after a node loss; None: all, so the run waits for replacements."""
    use_gpu: Execution[bool | None] = None
    """Whether each worker gets a GPU; None: if the cluster has any."""
    cpus_per_worker: Execution[int | None] = Field(default=None, ge=1)
    """CPU cores reserved for each worker; None: the most with which all workers fit on the nodes, or with GPUs each
    GPU's share of its node's cores."""
    wait_for_nodes: Execution[bool] = False
    """On a cluster that scales: wait for nodes that have not joined yet, instead of failing."""
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    """Random seed for initial weights, sample order and augmentation."""
    model: ModelConfig = ModelConfig()
    init: InitConfig = InitConfig()
    loss: LossConfig = LossConfig()
    data: DataConfig = DataConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        name, architecture = self.model.architecture, ARCHITECTURES[self.model.architecture]
        if not architecture.has_edge_logits and (self.loss.edge or self.loss.attention):
            raise ValueError(
                f"`loss.edge` is {self.loss.edge:g} and `loss.attention` is {self.loss.attention:g}, and {name} "
                "has no edge logits: set both to 0"
            )
        weights, classes = self.loss.class_weights, self.model.num_classes
        if isinstance(weights, tuple) and len(weights) != classes:
            listed = ",".join(f"{weight:g}" for weight in weights)
            raise ValueError(
                f"`loss.class_weights` is {listed}, {len(weights)} numbers: must be {classes}, one for each of the "
                "classes of `model.num_classes`"
            )
        if self.init.weights is not None and self.model.weights is not None:
            raise ValueError(
                f"`init.weights` is {self.init.weights} and `model.weights` is {self.model.weights}: a run starts from "
                "one of them; add --model.weights None"
            )
        if self.min_workers is not None and self.min_workers > self.num_workers:
            raise ValueError(f"`min_workers` is {self.min_workers}: must be at most `num_workers`, {self.num_workers}")
        if self.optimizer.warmup_epochs >= self.training.epochs:
            raise ValueError(
                f"`optimizer.warmup_epochs` is {self.optimizer.warmup_epochs:g}: must be less than `training.epochs`, "
                f"{self.training.epochs}"
            )
        needed = 1 if self.training.sync_bn and self.num_workers > 1 else architecture.least_images
        if self.images_per_batch < needed:
            shares = self.num_workers * self.training.accumulate
            raise ValueError(
                f"`training.batch_size` is {self.training.batch_size}: must be {needed * shares} or more for "
                f"`num_workers` {self.num_workers} x `training.accumulate` {self.training.accumulate}, {needed} images "
                f"per batch: batch norm in {name} needs {architecture.least_images}, or 1 with `training.sync_bn` on "
                "several workers"
            )
        return self

    @property
    def images_per_batch(self) -> int:
        """Images of one worker's forward pass; some workers have one more if the images do not divide evenly."""
        return self.training.batch_size // (self.num_workers * self.training.accumulate)
