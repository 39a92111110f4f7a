"""One inspection of a store or a raw dataset."""

from pydantic import Field

from gscnn_platform.config.base import Config
from gscnn_platform.config.tracking import TrackingConfig


class InspectConfig(Config):
    """One inspection of a store or a raw dataset."""

    data: str
    """Folder of a store or of a raw dataset, a path or URI."""
    format: str | None = None
    """Format of the raw dataset, as of jobs.precompute; None: the one whose layout fits."""
    out: str = "inspection.html"
    """HTML page to write."""
    recipe: str | None = Field(default=None, min_length=1)
    """Recipe to try on the dataset: the page shows the training crops that it draws, and what it would cost on this
    machine; None: none."""
    strict: bool = False
    """Exit with status 1 if there is an error or a warning."""
    max_samples: int | None = Field(default=None, ge=1)
    """Maximum samples to read, spread evenly over each split; None: all."""
    gallery: int = Field(default=80, ge=0, le=400)
    """Maximum samples whose pictures are on the page: about 90 KB for each of 480x360 pixels."""
    track: bool = False
    """Log the page, its pictures and its numbers as an MLflow run."""
    tracking: TrackingConfig = TrackingConfig()
