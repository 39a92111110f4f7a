"""One export."""

from pydantic import Field

from gscnn_platform.config.base import Config
from gscnn_platform.config.tracking import TrackingConfig


class ExportConfig(Config):
    """One export."""

    checkpoint: str = Field(min_length=1)
    """A checkpoint's or a run's folder, an MLflow run id, `models:/NAME@best`, or the authors' released checkpoint, a
    .pth file."""
    out: str
    """File to write: .onnx for ONNX, .pt2 for torch.export."""
    frames: tuple[str, ...] = ()
    """Images to check the file on: files, folders or glob patterns; by default, drawn street scenes of two sizes."""
    most_frames: int = Field(default=8, ge=1)
    """Maximum number of frames to check on."""
    tolerance: float = Field(default=1e-3, gt=0)
    """Largest allowed difference of a class or edge probability between the file and PyTorch."""
    overwrite: bool = False
    """Replace an existing file."""
    tracking: TrackingConfig = TrackingConfig()
