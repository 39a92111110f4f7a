"""ARCHITECTURES: the segmentation networks, by name.

The names are known without torch: a network's module is imported when a network is built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gscnn.model import DeepLabV3Plus, GatedSCNN, SegmentationModel


@dataclass(frozen=True)
class Architecture:
    """A network's class, its outputs and its requirements."""

    network: Callable[[], type[SegmentationModel]]
    """Imports the class. Its constructor lists the fields of ModelConfig that it reads, with their defaults."""
    has_edge_logits: bool
    """Whether it predicts boundaries, which the edge loss and the attention loss read."""
    least_images: int = 1
    """Minimum images per worker's batch in training; 1 is enough if batch norm is synchronized over several workers."""


def _gscnn() -> type[GatedSCNN]:
    from gscnn.model import GatedSCNN

    return GatedSCNN


def _deeplabv3plus() -> type[DeepLabV3Plus]:
    from gscnn.model import DeepLabV3Plus

    return DeepLabV3Plus


ARCHITECTURES: Final[dict[str, Architecture]] = {
    # The pooled ASPP branch has one value per channel and image, and batch norm needs at least two.
    "gscnn": Architecture(_gscnn, has_edge_logits=True, least_images=2),
    "deeplabv3plus": Architecture(_deeplabv3plus, has_edge_logits=False, least_images=2),
}
"""Name -> class and requirements; tests/conformance/test_architectures.py tests each entry."""
