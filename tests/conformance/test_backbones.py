"""What every entry of BACKBONES and timm's models must do, and that nothing is assumed of a backbone beyond that.

tests/gscnn_tests/test_checkpointing.py holds that each runs its blocks by `Backbone.run`.
"""

from typing import Literal

import pytest
import torch
from jaxtyping import Float
from pydantic import ValidationError
from torch import Tensor, nn

from gscnn.architectures import ARCHITECTURES
from gscnn.backbones import BACKBONES, Network, network_of
from gscnn.backbones.taps import Backbone, Taps
from gscnn.config import ModelConfig
from gscnn.model import build_model

META = torch.device("meta")
"""Shapes without values: the large backbones cost nothing there."""

every_backbone = pytest.mark.parametrize("name", BACKBONES)

OFFERED = [
    *((name, stride) for name, network in BACKBONES.items() for stride in network.output_strides),
    *(
        (f"timm/{name}", stride)
        for name, strides in {
            "mobilenetv3_small_050": (8, 16, 32),
            "tf_efficientnet_lite0": (8, 16, 32),
            "convnext_atto": (8, 16, 32),
            "swin_s3_tiny_224": (32,),
            "resnet10t": (8, 16, 32),
            "regnetx_002": (8, 16, 32),
            "vit_tiny_patch16_224": (16,),
        }.items()
        for stride in strides
    ),
]


@pytest.mark.parametrize(("name", "output_stride"), OFFERED)
def test_taps_have_the_channels_that_are_announced_and_end_at_the_output_stride(name: str, output_stride: int) -> None:
    with META:
        network = network_of(name)(output_stride, None)
    for size in ((64, 96), (33, 47)):
        with torch.no_grad():
            taps = network(torch.empty(2, 3, *size, device=META))
        assert tuple(tap.shape[1] for tap in taps) == tuple(network.channels)
        assert {tap.shape[0] for tap in taps} == {2}
        for axis, length in enumerate(size, start=2):
            sides = [tap.shape[axis] for tap in taps]
            assert sides == sorted(sides, reverse=True), "strides never fall from one tap to the next"
            assert sides[0] <= length
            assert length // output_stride <= sides[-1] <= -(-length // output_stride)


@every_backbone
def test_what_it_does_not_offer_is_refused_with_what_it_offers(name: str) -> None:
    network = BACKBONES[name]
    with pytest.raises(ValidationError, match=rf"`weights` is other: {name} offers .*None"):
        ModelConfig.model_validate({"backbone": name, "output_stride": network.output_strides[0], "weights": "other"})
    strides: tuple[Literal[8, 16, 32], ...] = (8, 16, 32)
    for stride in strides:
        if stride in network.output_strides:
            for weights in (None, *network.weights):
                assert ModelConfig(backbone=name, output_stride=stride, weights=weights).weights == weights
        else:
            with pytest.raises(ValidationError, match=rf"`output_stride` is {stride}: {name} offers "):
                ModelConfig(backbone=name, output_stride=stride)


@every_backbone
def test_stages_run_in_order_and_each_weight_is_in_one_of_them(name: str) -> None:
    network = BACKBONES[name]
    with META:
        backbone = network(network.output_strides[0], None)
    owned = [parameter for stage in network.stages for parameter in backbone.stage(stage).parameters()]
    assert len(owned) == len(set(owned))
    assert set(owned) == set(backbone.parameters())
    ran: list[int] = []
    for place, stage in enumerate(network.stages):
        for module in backbone.stage(stage).modules():
            if list(module.parameters(recurse=False)):
                module.register_forward_hook(lambda *_, place=place: ran.append(place))
    with torch.no_grad():
        backbone(torch.empty(2, 3, 64, 96, device=META))
    assert ran == sorted(ran)
    assert set(ran) == set(range(len(network.stages)))


@every_backbone
def test_the_first_stages_can_be_frozen_and_more_than_there_are_is_an_error(name: str) -> None:
    network = BACKBONES[name]
    stride, count = network.output_strides[0], len(network.stages)
    for frozen in range(count + 1):
        with META:
            config = ModelConfig.model_validate({"backbone": name, "output_stride": stride, "frozen_stages": frozen})
            model = build_model(config)
        [backbone] = [module for module in model.modules() if isinstance(module, Backbone)]
        for place, stage in enumerate(network.stages):
            assert {parameter.requires_grad for parameter in backbone.stage(stage).parameters()} == {place >= frozen}
        trained = [key for key, value in model.named_parameters() if value.requires_grad]
        others = [key for key, _ in model.named_parameters() if not key.startswith("regular_stream.")]
        assert set(others) <= set(trained)
    message = rf"`frozen_stages` is {count + 1}: {name} has {count} stages, {', '.join(network.stages)}"
    with pytest.raises(ValidationError, match=message):
        ModelConfig.model_validate({"backbone": name, "output_stride": stride, "frozen_stages": count + 1})


class Patches(Backbone):
    """Cuts the image into patches: a stem of stride 4 or 16, as transformers have, and no finer tap."""

    def __init__(self, stem_stride: int, output_stride: int) -> None:
        super().__init__()
        self.channels = Taps(5, 5, 6, 7, 8)
        self.stem = nn.Conv2d(3, 5, stem_stride, stride=stem_stride)
        step = output_stride // stem_stride
        self.gate1 = nn.Conv2d(5, 6, step, stride=step)
        self.gate2 = nn.Conv2d(6, 7, 1)
        self.last = nn.Conv2d(7, 8, 1)

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Taps[Tensor]:
        stem = self.stem(image)
        gate1 = self.run((self.gate1,), stem)
        gate2 = self.run((self.gate2,), gate1)
        return Taps(stem, stem, gate1, gate2, self.run((self.last,), gate2))


@pytest.mark.parametrize("stem_stride", [1, 4, 16])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_backbone_of_any_stem_stride_and_with_weights_of_its_own_serves(
    architecture: str, stem_stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    def build(output_stride: int, weights: str | None) -> Backbone:
        asked.append(weights)
        return Patches(stem_stride, output_stride)

    monkeypatch.setitem(BACKBONES, "patches", Network(build, ("stem", "gate1", "gate2", "last"), (16,), ("mae",)))
    settings = {"architecture": architecture, "backbone": "patches", "output_stride": 16, "weights": "mae"}
    small = {"num_classes": 3, "aspp_channels": 4, "low_level_channels": 4, "shape_widths": (4, 4, 4, 4)}
    model = build_model(ModelConfig.model_validate({**settings, **small}))
    assert asked == ["mae"]
    output = model(torch.randn(2, 3, 48, 64), torch.rand(2, 1, 48, 64))
    assert output.seg_logits.shape == (2, 3, 48, 64)
    assert output.seg_logits.isfinite().all()
    if output.edge_logits is not None:
        assert output.edge_logits.shape == (2, 1, 48, 64)
