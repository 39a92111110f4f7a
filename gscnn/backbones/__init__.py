"""BACKBONES: the classification networks that can serve as the regular stream, by name; `timm/NAME` is one of timm.

The names are known without torch: a network's module is imported when the network is built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gscnn.backbones.timm_names import PREFIX, check_is_in_timm, timm_models

if TYPE_CHECKING:
    from gscnn.backbones.taps import Backbone


V1: Final = "IMAGENET1K_V1"
V2: Final = "IMAGENET1K_V2"
"""torchvision's names of its ImageNet weights."""


@dataclass(frozen=True)
class Network:
    """How to build a backbone, and what it offers."""

    build: Callable[[int, str | None], Backbone]
    """Called with output_stride and weights."""
    stages: tuple[str, ...]
    """Names of its stages, from the input to the top, for `Backbone.stage`: each weight is in exactly one of them."""
    output_strides: tuple[int, ...] = (8, 16)
    weights: tuple[str, ...] = ()
    """Names of its pretrained weights; None, random weights, is always offered."""
    checkpoints_activations: bool = True
    """Whether it offers ModelConfig.activation_checkpointing."""
    known_when_built: bool = False
    """Whether only building it tells which of `output_strides` it offers; building it with another is a ValueError."""

    def __call__(self, output_stride: int, weights: str | None) -> Backbone:
        return self.build(output_stride, weights)


RESNET_STAGES: Final = ("stem", "layer1", "layer2", "layer3", "layer4")
TAPS: Final = ("stem", "low_level", "gate1", "gate2", "top")


def _resnet(name: str, *versions: str) -> Network:
    def build(output_stride: int, weights: str | None) -> Backbone:
        from gscnn.backbones.resnet import ResNetBackbone

        return ResNetBackbone(name, output_stride, weights)

    return Network(build, RESNET_STAGES, weights=("imagenet", *versions))


def _wide_resnet38(output_stride: int, weights: str | None) -> Backbone:
    from gscnn.backbones.wide_resnet import WideResNet38

    return WideResNet38(output_stride, weights)


def _small_resnet(output_stride: int, weights: str | None) -> Backbone:
    from gscnn.backbones.small_resnet import SmallResNet

    return SmallResNet(output_stride, weights)


BACKBONES: Final[dict[str, Network]] = {
    "resnet10_small": Network(_small_resnet, RESNET_STAGES),
    "resnet18": _resnet("resnet18", V1),
    "resnet50": _resnet("resnet50", V1, V2),
    "resnet101": _resnet("resnet101", V1, V2),
    "wide_resnet50_2": _resnet("wide_resnet50_2", V1, V2),
    "wide_resnet101_2": _resnet("wide_resnet101_2", V1, V2),
    "wide_resnet38": Network(
        _wide_resnet38, ("stem", *(f"module{number}" for number in range(2, 8))), output_strides=(8,)
    ),
}
"""Name -> builder, called with output_stride and weights; tests/conformance/test_backbones.py tests each entry."""


def network_of(backbone: str) -> Network:
    """The network that `ModelConfig.backbone` names: an entry of BACKBONES, or `timm/NAME`.

    Raises:
        ValueError: there is none of this name.
    """
    if backbone.startswith(PREFIX):
        check_is_in_timm(backbone)
        return _timm(backbone)
    if backbone not in BACKBONES:
        also = f"; did you mean {PREFIX}{backbone}?" if backbone in timm_models() else ""
        raise ValueError(f"must be one of {', '.join(BACKBONES)}, or {PREFIX}NAME for a model of timm{also}")
    return BACKBONES[backbone]


def _timm(backbone: str) -> Network:
    def build(output_stride: int, weights: str | None) -> Backbone:
        from gscnn.backbones.timm import TimmBackbone

        return TimmBackbone(backbone.removeprefix(PREFIX), output_stride, weights)

    return Network(build, TAPS, (8, 16, 32), ("imagenet",), checkpoints_activations=False, known_when_built=True)
