"""Bilinear resize of feature maps."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate


def resize(x: Float[Tensor, "B C h w"], size: torch.Size) -> Float[Tensor, "B C H W"]:
    """Bilinear with align_corners=True, as everywhere before the head's last resize."""
    return interpolate(x, size=size, mode="bilinear", align_corners=True)
