"""timm's models as backbones, against timm itself; test_timm_weights.py tests their pretrained weights.

tests/conformance/test_backbones.py holds what they have in common with the other backbones.
"""

import math
import subprocess
import sys
from importlib import import_module
from io import BytesIO
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from gscnn.backbones import TAPS, network_of
from gscnn.backbones.timm import TimmBackbone, tap_indices
from gscnn.backbones.timm_names import timm_models
from gscnn.config import ModelConfig
from gscnn.constants import IMAGE_MEAN, IMAGE_STD
from gscnn.export import export_program
from gscnn.model import DeepLabV3Plus, GatedSCNN

timm: Any = import_module("timm")
"""Untyped: its annotations contradict what its functions return."""

STRIDES = {
    ("mobilenetv3_small_050", 8): (2, 4, 8, 8, 8),
    ("mobilenetv3_small_050", 32): (2, 4, 8, 16, 32),
    ("tf_efficientnet_lite0", 16): (2, 4, 8, 16, 16),
    ("convnext_atto", 8): (4, 4, 8, 8, 8),
    ("convnext_atto", 16): (4, 4, 8, 16, 16),
    ("swin_s3_tiny_224", 32): (4, 4, 8, 16, 32),
    ("resnet10t", 16): (2, 4, 8, 16, 16),
    ("vit_tiny_patch16_224", 16): (16, 16, 16, 16, 16),
    ("dla34", 32): (1, 4, 8, 16, 32),
}
"""Name and output stride -> strides of the taps."""

PLACES = {
    key: (0, 0, 1, 2, 3) if key[0] in ("convnext_atto", "swin_s3_tiny_224") else (0, 1, 2, 3, 4) for key in STRIDES
} | {("vit_tiny_patch16_224", 16): (2, 2, 5, 8, 11), ("dla34", 32): (0, 2, 3, 4, 5)}
"""Of each tap in the list of timm's feature maps."""

SMALL = ("mobilenetv3_small_050", "convnext_atto", "resnet10t")
"""One of each kind of norm: timm's batch norm with an activation, layer norm, torch's batch norm."""

every_network = pytest.mark.parametrize(("name", "output_stride"), STRIDES)


def seeded(name: str, output_stride: int = 16) -> TimmBackbone:
    """The same weights at every call."""
    torch.manual_seed(0)
    return TimmBackbone(name, output_stride, None)


def random_image(size: tuple[int, int], images: int = 2) -> Tensor:
    return torch.randn(images, 3, *size, generator=torch.Generator().manual_seed(1))


def test_the_names_that_are_read_without_timm_are_those_of_its_registry() -> None:
    assert timm_models() == set(timm.list_models())


def test_a_name_that_does_not_exist_is_refused_without_torch_and_with_its_neighbours() -> None:
    code = (
        "import sys; from gscnn.config import ModelConfig\n"
        "try: ModelConfig(backbone='timm/efficientnet_lit0')\n"
        "except ValueError as error: print(error)\n"
        "print(sorted({'torch', 'timm'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=True)
    assert f"timm has no model 'efficientnet_lit0' among its {len(timm_models())}" in run.stdout
    assert "did you mean timm/efficientnet_lite0 or " in run.stdout
    assert run.stdout.endswith("[]\n")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"backbone": "timm/resnet50.a1_in1k"}, "no model 'resnet50.a1_in1k' .* did you mean timm/resnet50 "),
        ({"backbone": "timm/"}, "no model ''"),
        ({"backbone": "timm/!"}, r"no model '!' among its \d+ "),
        ({"backbone": "convnext_tiny"}, "must be one of resnet10_small, .*; did you mean timm/convnext_tiny"),
        (
            {"backbone": "timm/resnet10t", "weights": "coco"},
            "`weights` is coco: timm/.* offers imagenet or None",
        ),
        (
            {"backbone": "timm/resnet10t", "activation_checkpointing": True},
            "`activation_checkpointing` is True: timm/",
        ),
        ({"backbone": "resnet18", "output_stride": 32}, "`output_stride` is 32: resnet18 offers 8 or 16"),
    ],
)
def test_what_is_wrong_without_building_it_is_refused_by_the_config(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig.model_validate(fields)


def test_without_timm_a_config_that_names_one_of_its_models_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gscnn.backbones.timm_names.find_spec", lambda name: None)
    timm_models.cache_clear()
    try:
        assert ModelConfig(backbone="timm/resnet10t").backbone == "timm/resnet10t"
    finally:
        timm_models.cache_clear()


@pytest.mark.parametrize(
    ("name", "output_stride", "message"),
    [
        ("swin_s3_tiny_224", 16, "`model.output_stride` is 16: timm/swin_s3_tiny_224 offers 32$"),
        ("convnext_atto", 4, "`model.output_stride` is 4: timm/convnext_atto offers 8 or 16 or 32$"),
        ("eva02_tiny_patch14_224", 16, "timm/eva02_tiny_patch14_224 offers no output stride of 8, 16 or 32"),
        (
            "maxvit_tiny_tf_224",
            32,
            "timm/maxvit_tiny_tf_224 does not accept images of any size: choose ",
        ),
    ],
)
def test_what_only_the_model_knows_is_refused_when_it_is_built(name: str, output_stride: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TimmBackbone(name, output_stride, None)
    assert ModelConfig(backbone=f"timm/{name}").known_when_built


@every_network
def test_taps_have_their_strides_at_any_size_of_image(name: str, output_stride: int) -> None:
    network = seeded(name, output_stride).eval()
    for size in ((75, 101), (96, 64)):
        with torch.no_grad():
            taps = network(random_image(size, images=1))
        for tap, channels, stride in zip(taps, network.channels, STRIDES[name, output_stride], strict=True):
            assert tap.shape == (1, channels, *(math.ceil(side / stride) for side in size))
            assert tap.isfinite().all()


@every_network
def test_taps_are_timms_own_feature_maps_of_those_strides(name: str, output_stride: int) -> None:
    """Of timm's default extractor for the family, on an image of ImageNet's statistics that needs no padding."""
    network = seeded(name, output_stride).eval()
    places = PLACES[name, output_stride]
    options = {"swin": {"strict_img_size": False}, "vit_": {"dynamic_img_size": True}}.get(name[:4], {})
    dilation = {} if output_stride == 32 or name.startswith("vit_") else {"output_stride": output_stride}
    indices = tuple(range(max(places) + 1))
    theirs = timm.create_model(name, features_only=True, out_indices=indices, **options, **dilation).eval()
    # Each family's extractor renames the tensors in its own way, and keeps their order.
    theirs.load_state_dict(dict(zip(theirs.state_dict(), network.state_dict().values(), strict=True)))
    image = random_image((96, 64))
    mean, std = (torch.tensor(theirs.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    same = (image * torch.tensor(IMAGE_STD).view(3, 1, 1) + torch.tensor(IMAGE_MEAN).view(3, 1, 1) - mean) / std
    with torch.no_grad():
        taps, maps = network(image), theirs(same)
    if name.startswith("swin"):
        maps = [each.permute(0, 3, 1, 2) for each in maps]
    for tap, place in zip(taps, places, strict=True):
        torch.testing.assert_close(tap, maps[place], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("strides", "places"),
    [
        ([2, 4, 8, 16, 32], (0, 1, 2, 3, 4)),
        ([2, 4, 8, 8, 8], (0, 1, 2, 3, 4)),
        ([4, 8, 16, 32], (0, 0, 1, 2, 3)),
        ([1, 2, 4, 8, 16, 32], (0, 2, 3, 4, 5)),
        ([2, 4, 8, 16, 32, 64], (0, 1, 2, 3, 4)),
        ([16, 32, 64], (0, 0, 0, 0, 1)),
        ([8, 16, 32], (0, 0, 0, 1, 2)),
        ([16] * 12, (2, 2, 5, 8, 11)),
        ([16] * 24, (5, 5, 11, 17, 23)),
        ([32], (0, 0, 0, 0, 0)),
    ],
)
def test_taps_are_chosen_by_stride(strides: list[int], places: tuple[int, ...]) -> None:
    assert tuple(tap_indices(strides)) == places


def test_a_model_of_none_but_coarse_maps_has_no_taps() -> None:
    with pytest.raises(ValueError, match="its finest feature map has stride 64: need 32 or less"):
        tap_indices([64, 128])


@every_network
def test_every_parameter_has_a_finite_gradient_in_channels_last_too(name: str, output_stride: int) -> None:
    """DistributedDataParallel waits for a gradient of each."""
    network = seeded(name, output_stride).to(memory_format=torch.channels_last)
    image = random_image((75, 101)).contiguous(memory_format=torch.channels_last)
    sum((tap.square().mean() for tap in network(image)), torch.zeros(())).backward()
    for parameter, value in network.named_parameters():
        assert value.grad is not None, parameter
        assert value.grad.isfinite().all(), parameter


@every_network
def test_stages_run_in_order_and_each_weight_is_in_one_of_them(name: str, output_stride: int) -> None:
    network = seeded(name, output_stride)
    stages = [network.stage(stage) for stage in network_of(f"timm/{name}").stages]
    owned = [parameter for stage in stages for parameter in stage.parameters()]
    assert len(owned) == len(set(owned))
    assert set(owned) == set(network.parameters())
    ran: list[int] = []
    for place, stage in enumerate(stages):
        for module in stage.modules():
            if list(module.parameters(recurse=False)):
                module.register_forward_hook(lambda *_, place=place: ran.append(place))
    network(random_image((64, 96)))
    assert ran == sorted(ran)
    places = PLACES[name, output_stride]
    assert set(ran) == {places.index(place) for place in places}


@every_network
def test_taps_of_frozen_stages_are_outside_of_the_backward_pass(name: str, output_stride: int) -> None:
    network = seeded(name, output_stride)
    network.freeze(TAPS[:3], batch_norm=False)
    taps = network(random_image((64, 96)))
    assert [tap.requires_grad for tap in taps] == [False, False, False, True, True]


def test_batch_norms_with_an_activation_are_frozen_as_well() -> None:
    network = seeded("mobilenetv3_small_050")
    network.freeze((), batch_norm=True)
    network.train()
    norms = [each for each in network.modules() if isinstance(each, timm.layers.BatchNormAct2d)]
    assert norms
    assert not any(norm.training or norm.weight.requires_grad for norm in norms)


@pytest.mark.parametrize("name", SMALL)
def test_the_seed_decides_the_weights_and_copies_and_state_dicts_keep_them(name: str) -> None:
    network, again = seeded(name).eval(), seeded(name).eval()
    averaged, loaded = AveragedModel(network, use_buffers=True).eval(), TimmBackbone(name, 16, None).eval()
    loaded.load_state_dict(network.state_dict())
    averaged.update_parameters(network)
    averaged.update_parameters(network)
    with torch.no_grad():
        top, *others = (each(random_image((33, 47))).top for each in (network, again, averaged, loaded))
    assert all(torch.equal(top, other) for other in others)


@pytest.mark.parametrize("name", SMALL)
def test_synchronized_batch_norms_keep_the_activations(name: str) -> None:
    """torch's own conversion drops those of timm's BatchNormAct2d."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {"output_stride": 16, "aspp_channels": 8, "shape_widths": (4, 4, 4, 4)}
    model = GatedSCNN(f"timm/{name}", num_classes=3, **settings).eval()
    image, gradient = random_image((33, 47)), torch.rand(2, 1, 33, 47)
    with torch.no_grad():
        expected = model(image, gradient).seg_logits
        model.synchronize_batch_norms()
        assert {type(each) for each in model.modules()}.isdisjoint({nn.BatchNorm2d, timm.layers.BatchNormAct2d})
        torch.testing.assert_close(model(image, gradient).seg_logits, expected)


EXPORTED: list[tuple[str, Literal[16, 32]]] = [
    ("mobilenetv3_small_050", 16),
    ("tf_mobilenetv3_small_minimal_100", 32),  # TensorFlow's padding.
    ("convnext_atto", 16),  # Padded images, and pooling with TensorFlow's padding.
]


@pytest.mark.parametrize(("name", "output_stride"), EXPORTED)
def test_a_convolutional_model_of_timm_is_exported_for_any_size(name: str, output_stride: Literal[16, 32]) -> None:
    torch.manual_seed(0)
    model = DeepLabV3Plus(f"timm/{name}", num_classes=3, output_stride=output_stride, aspp_channels=8).eval()
    with BytesIO() as file:
        torch.export.save(export_program(model), file)
        program = torch.export.load(file).module()
    for height, width in ((75, 101), (64, 96), (33, 34)):
        image, gradient = random_image((height, width)), torch.rand(2, 1, height, width)
        with torch.no_grad():
            torch.testing.assert_close(program(image, gradient)["seg_logits"], model(image, gradient).seg_logits)
