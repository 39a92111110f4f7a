"""One export."""

from pydantic import Field

from gscnn_platform.config.base import Config
from gscnn_platform.config.tracking import TrackingConfig


class ExportConfig(Config):
    """One export."""

    checkpoint: str = Field(min_length=1)
    """A checkpoint's or a run's folder, or an MLflow run id."""
    out: str
    """File to write: .onnx for ONNX, .pt2 for torch.export."""
    frames: tuple[str, ...] = ()
    """Images to check the file on: files, folders or glob patterns; none: street scenes of two sizes are drawn."""
    most_frames: int = Field(default=8, ge=1)
    """Frames to check on, at most."""
    tolerance: float = Field(default=1e-3, gt=0)
    """Largest difference of a probability, of a class or an edge, between the file and PyTorch."""
    overwrite: bool = False
    """Replace a file that is there already."""
    tracking: TrackingConfig = TrackingConfig()
