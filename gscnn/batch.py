"""A batch, a model's output, and the legend of the shape letters in this project's annotations.

B   images in the batch              K   classes
H W height and width in pixels       C   channels
h w height and width of a tap, smaller than H W by its stride
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from gscnn.constants import IMAGE_MEAN, IMAGE_STD


@dataclass(frozen=True)
class SegBatch:
    """One batch: the loader yields it, the model and the losses read it."""

    image: Float[Tensor, "B 3 H W"]
    """RGB, normalized by IMAGE_MEAN and IMAGE_STD."""
    label: Integer[Tensor, "B H W"]
    """Train id of each pixel; IGNORE_INDEX for void."""
    gradient: Float[Tensor, "B 1 H W"]
    """Edge prior of the shape stream, in [0, 1]."""
    boundary: UInt8[Tensor, "B 1 H W"]
    """1 where another class lies within the boundary radius, else 0."""

    def __len__(self) -> int:
        return self.image.shape[0]

    def to(self, device: torch.device, memory_format: torch.memory_format = torch.contiguous_format) -> SegBatch:
        """The batch on `device`; copies from pinned memory do not block."""
        return SegBatch(
            image=self.image.to(device, non_blocking=True, memory_format=memory_format),
            label=self.label.to(device, non_blocking=True),
            gradient=self.gradient.to(device, non_blocking=True),
            boundary=self.boundary.to(device, non_blocking=True),
        )

    def pin_memory(self) -> SegBatch:
        """Called by torch's DataLoader when it pins memory."""
        return SegBatch(
            self.image.pin_memory(), self.label.pin_memory(), self.gradient.pin_memory(), self.boundary.pin_memory()
        )


class SegmentationOutput(NamedTuple):
    """A model's output for a batch, at the images' size."""

    seg_logits: Float[Tensor, "B K H W"]
    edge_logits: Float[Tensor, "B 1 H W"] | None
    """None from a model without a shape stream."""


def normalize(image: UInt8[Tensor, "*B 3 H W"]) -> Float[Tensor, "*B 3 H W"]:
    """uint8 RGB -> float32, zero mean and unit variance over ImageNet.

    Raises:
        ValueError: the image is not uint8. Floats in [0, 1] would silently be divided by 255 a second time.
    """
    if image.dtype != torch.uint8:
        raise ValueError(f"image is {image.dtype}: need uint8 RGB of 0 to 255, as read from a file")
    mean = torch.tensor(IMAGE_MEAN, device=image.device).view(3, 1, 1)
    std = torch.tensor(IMAGE_STD, device=image.device).view(3, 1, 1)
    return (image.float() / 255 - mean) / std
