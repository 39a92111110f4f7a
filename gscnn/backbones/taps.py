"""What every backbone hands to the shape stream, the fusion and the head."""

from typing import Generic, NamedTuple, TypeVar

from jaxtyping import Float
from torch import Tensor, nn

T = TypeVar("T")


class Taps(NamedTuple, Generic[T]):
    """Five places of a backbone: of type Tensor in a forward pass, of type int for their channel counts."""

    stem: T
    """At stride 2; starts the shape stream."""
    low_level: T
    """At stride 4; sharpens the head."""
    gate1: T
    """At stride 8; gates the first gated convolution."""
    gate2: T
    """At stride 8 or 16; gates the second."""
    top: T
    """At the output stride; gates the third and feeds the fusion."""


class Backbone(nn.Module):
    """A network that maps an image [B, 3, H, W] to Taps."""

    channels: Taps[int]

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Taps[Tensor]:
        raise AssertionError("a backbone defines forward")
