"""One evaluation."""

from typing import Literal

from pydantic import Field

from gscnn.config import InferenceConfig
from gscnn_platform.config.base import Config
from gscnn_platform.config.data import CacheConfig
from gscnn_platform.config.tracking import TrackingConfig


class EvaluateConfig(Config):
    """One evaluation."""

    checkpoint: str = Field(min_length=1)
    """A checkpoint's or a run's folder, an MLflow run id, `models:/NAME@best`, or the authors' released checkpoint, a
    .pth file."""
    store: str
    """Folder that jobs.precompute wrote, a path or URI."""
    split: str = "val"
    """Split of the store to evaluate on; `held-out`: the samples that the run held out by `data.val_share`."""
    compare: str | None = Field(default=None, min_length=1)
    """Another checkpoint, given in the same way: both are evaluated, and the page shows them side by side."""
    report: str | None = None
    """The HTML page to write; None: evaluation/NAME-SPLIT.html in the storage folder."""
    batch_size: int = Field(default=1, ge=1)
    """Maximum images per batch: whole images of one size."""
    precision: Literal["float32", "bf16"] = "float32"
    """Arithmetic of the forward pass."""
    inference: InferenceConfig = InferenceConfig()
    use_gpu: bool | None = None
    """Whether to evaluate on a GPU, of this machine or else of the cluster; None: if this machine has one."""
    cpus_per_worker: int | None = Field(default=None, ge=1)
    """CPU cores to use; None: all of this machine, or with a GPU of the cluster that GPU's share of its node's
    cores."""
    wait_for_nodes: bool = False
    """On a cluster that scales: evaluate on one of its nodes, and wait for one that has not joined yet."""
    cache: CacheConfig = CacheConfig()
    tracking: TrackingConfig = TrackingConfig()
