"""One prediction of files."""

from typing import Literal

from pydantic import Field

from gscnn.config import InferenceConfig
from gscnn_platform.config.base import Config
from gscnn_platform.config.tracking import TrackingConfig


class PredictConfig(Config):
    """One prediction of files."""

    checkpoint: str = Field(min_length=1)
    """A checkpoint's or a run's folder, an MLflow run id, `models:/NAME@best`, or the authors' released checkpoint, a
    .pth file."""
    input: tuple[str, ...] = Field(min_length=1)
    """Image files, folders that are searched recursively, or glob patterns; paths or URIs, one or several."""
    out: str
    """Output folder, a path or URI; on a cluster, one that all nodes can reach. Files in it are never used as input."""
    overwrite: bool = False
    """Replace existing pictures."""
    inference: InferenceConfig = InferenceConfig()
    precision: Literal["float32", "bf16"] = "float32"
    """Arithmetic of the forward pass."""
    num_workers: int | None = Field(default=None, ge=1)
    """Copies of the model that predict in parallel; None: one per GPU, or one per four CPU cores."""
    use_gpu: bool | None = None
    """Whether each worker gets a GPU; None: if the cluster has any."""
    cpus_per_worker: int | None = Field(default=None, ge=1)
    """CPU cores reserved for each worker; None: the most with which all workers fit on the nodes, or with GPUs each
    GPU's share of its node's cores."""
    wait_for_nodes: bool = False
    """On a cluster that scales: wait for nodes that have not joined yet, instead of failing."""
    tracking: TrackingConfig = TrackingConfig()
