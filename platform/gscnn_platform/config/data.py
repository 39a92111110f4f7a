"""The config of a run's store, and how its workers read it."""

from pydantic import Field

from gscnn.config import Execution
from gscnn_platform.config.base import Config
from gscnn_platform.config.edges import EdgeConfig


class CacheConfig(Config):
    """A node's cache for the parts of stores that are read by URI, shared by all jobs on the node."""

    folder: Execution[str | None] = None
    """Cache folder on the node's own disk; None: $XDG_CACHE_HOME/gscnn, or ~/.cache/gscnn."""
    gigabytes: Execution[float] = Field(default=100.0, ge=0)
    """Maximum size of the cache; parts that do not fit are read from the store, row by row. 0 disables the cache."""


class DataConfig(Config):
    """A run's requirements for its store, and how its workers read it."""

    edges: EdgeConfig = EdgeConfig()
    """Edge settings that the store must have been built with."""
    boundary_radius: int | None = Field(default=None, ge=1, le=32)
    """Radius in pixels of the edge label in training, which is derived after augmentation; None: `edges.radius`."""
    fingerprint: str | None = None
    """Fingerprint that the store must have; None accepts any. MLflow shows the one that was used."""
    train_split: str = "train"
    """Split to train on."""
    val_split: str | None = "val"
    """Split to validate on; None: no validation, and the last checkpoint counts as the best. Ignored if `val_share` is
    set."""
    val_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the training split that is held out for validation, chosen by `val_seed`; 0: none."""
    val_seed: int = Field(default=0, ge=0)
    """Random seed for choosing the samples of `val_share`; runs with any `seed` hold out the same samples."""
    class_uniform: float = Field(default=0.0, ge=0, le=1)
    """Share of an epoch's crops that lie around a pixel of a class, with every class of the training split drawn
    equally often, so that rare classes are seen (authors' code of arXiv:1812.01593: 0.5); the other crops follow the
    shuffled samples."""
    loader_processes: Execution[int] = Field(default=0, ge=0)
    """Data loading processes per worker; 0 loads in the worker itself, best with few cores."""
    eval_batch_size: Execution[int] = Field(default=1, ge=1)
    """Maximum images per validation batch: whole images of one size."""
    cache: CacheConfig = CacheConfig()

    @property
    def validates(self) -> bool:
        """Whether a run has samples to validate on."""
        return self.val_share > 0 or self.val_split is not None

    @property
    def training_edges(self) -> EdgeConfig:
        """How training derives the edge label; the edge prior is the store's."""
        return self.edges.model_copy(update={"radius": self.boundary_radius or self.edges.radius})
