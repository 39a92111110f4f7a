"""The store of a run, and how its workers read it."""

from pydantic import Field

from gscnn.config import Execution
from gscnn_platform.config.base import Config
from gscnn_platform.config.edges import EdgeConfig


class CacheConfig(Config):
    """Where a node keeps the parts of a store that is read by URI, for all that runs on it."""

    folder: Execution[str | None] = None
    """Folder on the node's own disk; None: $XDG_CACHE_HOME/gscnn, or ~/.cache/gscnn."""
    gigabytes: Execution[float] = Field(default=100.0, ge=0)
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
    val_split: str | None = "val"
    """Split to validate on; None: no validation, and the last checkpoint counts as the best. Not read where `val_share`
    is set."""
    val_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the training split that is held out to validate on, chosen by `val_seed`; 0: none is."""
    val_seed: int = Field(default=0, ge=0)
    """Random seed of the choice that `val_share` asks for; runs of any `seed` hold out the same samples."""
    loader_processes: Execution[int] = Field(default=0, ge=0)
    """Processes a worker reads with; 0 reads in the worker itself, best where cores are few."""
    eval_batch_size: Execution[int] = Field(default=1, ge=1)
    """Whole images of one size per validation batch, at most."""
    cache: CacheConfig = CacheConfig()

    @property
    def validates(self) -> bool:
        """Whether a run has samples to validate on."""
        return self.val_share > 0 or self.val_split is not None

    @property
    def training_edges(self) -> EdgeConfig:
        """How training derives the edge label; the edge prior is the store's."""
        return self.edges.model_copy(update={"radius": self.boundary_radius or self.edges.radius})
