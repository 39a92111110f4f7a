"""Augmentation of the training samples."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from gscnn_platform.config.base import Config


class AugmentationConfig(Config):
    """Joint augmentation of image, label and edge prior. Probabilities lie in [0, 1]."""

    crop: tuple[int, int] = (720, 720)
    """Height and width of the training crop in pixels (released code: 720 x 720)."""
    scale: tuple[float, float] = (0.5, 2.0)
    """Range of the random resize, uniform (released code: 0.5 to 2)."""
    flip: float = Field(default=0.5, ge=0, le=1)
    """Probability of a horizontal flip."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """Interpolation of the resized image (released code: bicubic); the label always takes the nearest pixel."""
    colour_jitter: float = Field(default=0.25, ge=0, le=1)
    """Strength of brightness, contrast and saturation jitter (released code: 0.25)."""
    hue_jitter: float | None = Field(default=None, ge=0, le=0.5)
    """Largest shift of the hue, as a fraction of the colour circle (released code: 0.25); None: `colour_jitter` / 5."""
    blur: float = Field(default=0.5, ge=0, le=1)
    """Probability of a Gaussian blur (released code: 1)."""
    blur_sigma: tuple[float, float] = (0.15, 1.15)
    """Range of the blur's sigma in pixels (released code: 0.15 to 1.30)."""
    gradient: Literal["derived", "resized"] = "resized"
    """Edge prior of a training crop. "derived": computed from the augmented crop (released code), as inference computes
    it from its image; for a crop of 720x720, Canny adds 4.4 ms to 15 ms on one core. "resized": the store's edge prior,
    resized with the image: at scale 0.5 or 2 it overlaps with the derived one by a third (IoU), and most of its values
    are between 0 and 1, which inference never sees. If `scale` is 1 to 1, both are the store's edge prior, cropped like
    the image. Validation and evaluation read the store's.
    The default scored higher on CamVid: 0.020 mIoU over two seeds (benchmarks/results/settings-2026-11-26.md)."""

    @field_validator("crop")
    @classmethod
    def _large_enough(cls, value: tuple[int, int]) -> tuple[int, int]:
        if min(value) < 32:
            raise ValueError("a side needs 32 pixels or more")
        return value

    @field_validator("scale", "blur_sigma")
    @classmethod
    def _in_order(cls, value: tuple[float, float], field: ValidationInfo) -> tuple[float, float]:
        if not 0 < value[0] <= value[1]:
            raise ValueError(f"must be the smallest {field.field_name}, above 0, and then the largest")
        return value
