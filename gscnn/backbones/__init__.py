"""The classification networks that can serve as regular stream, by name."""

from collections.abc import Callable
from functools import partial
from typing import Final

from gscnn.backbones.resnet import ResNetBackbone
from gscnn.backbones.taps import Backbone, Taps
from gscnn.backbones.wide_resnet import WideResNet38

BACKBONES: Final[dict[str, Callable[[int, str | None], Backbone]]] = {
    "resnet18": partial(ResNetBackbone, "resnet18"),
    "resnet50": partial(ResNetBackbone, "resnet50"),
    "resnet101": partial(ResNetBackbone, "resnet101"),
    "wide_resnet50_2": partial(ResNetBackbone, "wide_resnet50_2"),
    "wide_resnet101_2": partial(ResNetBackbone, "wide_resnet101_2"),
    "wide_resnet38": WideResNet38,
}
"""Name -> function of (output_stride, weights) that builds it."""

__all__ = ["BACKBONES", "Backbone", "Taps"]
