"""Augmentation of the training samples."""

from typing import Self

from pydantic import Field, model_validator

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

    @model_validator(mode="after")
    def _sane(self) -> Self:
        if min(self.crop) < 32:
            raise ValueError(f"crop is {self.crop}: a side needs 32 pixels or more")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale is {self.scale}: need 0 < smallest <= largest")
        return self
