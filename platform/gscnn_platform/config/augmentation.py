"""Augmentation of the training samples."""

from pydantic import Field, field_validator

from gscnn_platform.config.base import Config


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

    @field_validator("crop")
    @classmethod
    def _large_enough(cls, value: tuple[int, int]) -> tuple[int, int]:
        if min(value) < 32:
            raise ValueError("a side needs 32 pixels or more")
        return value

    @field_validator("scale")
    @classmethod
    def _in_order(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1]:
            raise ValueError("must be the smallest scale, above 0, and then the largest")
        return value
