"""One prediction of files."""

from typing import Literal, Self

from pydantic import Field, model_validator

from gscnn.config import InferenceConfig
from gscnn_platform.config.base import Config
from gscnn_platform.config.tracking import TrackingConfig

PictureKind = Literal["label", "colour", "edge", "overlay"]


class PredictConfig(Config):
    """One prediction of files."""

    checkpoint: str = Field(min_length=1)
    """A checkpoint's or a run's folder, an MLflow run id, `models:/NAME@best`, or the authors' released checkpoint, a
    .pth file."""
    input: tuple[str, ...] = Field(min_length=1)
    """Image and video files, folders that are searched recursively, or glob patterns; paths or URIs, one or several."""
    out: str
    """Output folder, a path or URI; on a cluster, one that all nodes can reach. Files in it are never used as input."""
    overwrite: bool = False
    """Replace existing pictures."""
    pictures: tuple[PictureKind, ...] | None = Field(default=None, min_length=1)
    """Kinds of PNGs to write; None: all for an image, and none for a video, which always gets an overlay video."""
    video: bool = False
    """Treat the images of each folder as the frames of one video, in the order of the numbers in their names."""
    fps: float | None = Field(default=None, gt=0, le=1000)
    """Frames per second of the folders with --video, such as 29.97; None: 25."""
    page: bool = False
    """Write index.html, a page of all overlays, those with the most doubtful outlines first."""
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

    @model_validator(mode="after")
    def _options_that_need_others(self) -> Self:
        if self.fps is not None and not self.video:
            raise ValueError(
                f"`fps` is {self.fps:g}, the rate of folders of frames, and `video` is False: add --video; a video "
                "file keeps its own rate"
            )
        if self.page and self.pictures is not None and "overlay" not in self.pictures:
            raise ValueError(f"`page` shows overlays, and `pictures` is {' '.join(self.pictures)}: add overlay")
        return self
