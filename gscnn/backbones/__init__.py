"""BACKBONES: the classification networks that can serve as regular stream, by name.

The names are known without torch: a network's module is imported when the network is built.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gscnn.backbones.taps import Backbone


def _resnet(name: str) -> Callable[[int, str | None], Backbone]:
    def build(output_stride: int, weights: str | None) -> Backbone:
        from gscnn.backbones.resnet import ResNetBackbone

        return ResNetBackbone(name, output_stride, weights)

    return build


def _wide_resnet38(output_stride: int, weights: str | None) -> Backbone:
    from gscnn.backbones.wide_resnet import WideResNet38

    return WideResNet38(output_stride, weights)


BACKBONES: Final[dict[str, Callable[[int, str | None], Backbone]]] = {
    "resnet18": _resnet("resnet18"),
    "resnet50": _resnet("resnet50"),
    "resnet101": _resnet("resnet101"),
    "wide_resnet50_2": _resnet("wide_resnet50_2"),
    "wide_resnet101_2": _resnet("wide_resnet101_2"),
    "wide_resnet38": _wide_resnet38,
}
"""Name -> function of (output_stride, weights) that builds it."""
