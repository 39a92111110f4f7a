"""Weights of other files in our models: by name and shape, and never those of another network."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor

from gscnn.backbones.resnet import ResNetBackbone
from gscnn.config import ModelConfig
from gscnn.initial_weights import Part, WeightsMisfitError, fit_weights
from gscnn.model import DeepLabV3Plus, GatedSCNN, SegmentationModel, build_model
from gscnn.released_weights import convert_released_state_dict, with_unit_prior
from tests.released_network import ReleasedNetwork

META = torch.device("meta")
SMALL: dict[str, Any] = {"aspp_channels": 8, "low_level_channels": 8, "shape_widths": (8, 8, 8, 8)}


def small(num_classes: int = 3, **changes: Any) -> SegmentationModel:
    settings = {"backbone": "resnet10_small", **SMALL, **changes, "num_classes": num_classes}
    return build_model(ModelConfig.model_validate(settings))


def test_weights_of_the_same_model_are_all_loaded_bit_for_bit() -> None:
    ours, theirs = small(), small()
    fitted = fit_weights(theirs.state_dict(), ours)
    ours.load_state_dict(fitted.tensors, strict=True)
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())
    assert all(part.loaded == part.total for part in fitted.parts.values())
    assert list(fitted.parts) == ["backbone", "fusion", "head", "shape stream"]
    assert (fitted.other_shape, fitted.missing, fitted.unused) == ((), (), ())
    statistics = sum("running" in name for name, _ in ours.named_buffers())
    assert sum(part.total for part in fitted.parts.values()) == len(list(ours.parameters())) + statistics


def test_with_another_class_count_all_but_the_classifier_is_loaded() -> None:
    ours, theirs = small(3), small(5)
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    fitted = fit_weights({"model": theirs.state_dict(), "step": 3}, ours)
    ours.load_state_dict(fitted.tensors, strict=False)
    source = theirs.state_dict()
    [initialized] = [n for n, v in ours.state_dict().items() if v.shape != source[n].shape or not v.equal(source[n])]
    assert initialized == "head.classifier.6.weight"
    assert torch.equal(ours.state_dict()[initialized], before[initialized])
    total = fitted.parts["head"].total
    assert fitted.parts["head"] == Part(total - 1, total)
    assert fitted.other_shape == (f"{initialized} is [5, 8, 1, 1] in the file, [3, 8, 1, 1] in the model",)
    assert f"head {total - 1} of {total} (1 initialized)" in str(fitted)


def test_a_head_of_another_width_leaves_the_backbone_whole() -> None:
    fitted = fit_weights(small(low_level_channels=4).state_dict(), small())
    assert fitted.parts["backbone"].loaded == fitted.parts["backbone"].total
    assert [each.split()[0] for each in fitted.other_shape] == ["head.low_level.weight", "head.classifier.0.weight"]


def test_only_the_backbone_is_loaded_where_that_is_asked_for() -> None:
    fitted = fit_weights(small().state_dict(), small(), parts="backbone")
    assert {name.partition(".")[0] for name in fitted.tensors} == {"regular_stream"}
    assert fitted.parts["backbone"].loaded == fitted.parts["backbone"].total
    assert all(fitted.parts[part].loaded == 0 for part in ("fusion", "head", "shape stream"))
    assert fitted.missing == ()


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_a_librarys_resnet_gives_the_backbone_its_features(library: str) -> None:
    of_timm = library == "timm"
    network = pytest.importorskip("timm").create_model("resnet18") if of_timm else torchvision.models.resnet18()
    weights = network.state_dict()
    model = DeepLabV3Plus("resnet18", 3, output_stride=16, aspp_channels=8).eval()
    fitted = fit_weights(weights, model)
    assert fitted.parts["backbone"] == Part(100, 100)
    assert fitted.unused == ("fc.weight", "fc.bias")
    model.load_state_dict(fitted.tensors, strict=False)
    reference = torchvision.models.resnet18().eval()
    reference.load_state_dict(weights)
    with torch.no_grad():
        image = torch.randn(1, 3, 64, 96)
        x = reference.maxpool(reference.relu(reference.bn1(reference.conv1(image))))
        expected = reference.layer3(reference.layer2(reference.layer1(x)))
        torch.testing.assert_close(model.get_submodule("regular_stream")(image).gate2, expected)


@pytest.mark.parametrize("wrapper", ["bare", "module", "state_dict"])
def test_imagenet_weights_under_the_authors_names_fill_the_wide_backbone(wrapper: str) -> None:
    with META:
        network, model = ReleasedNetwork().state_dict(), GatedSCNN("wide_resnet38", 19)
        weights: dict[str, Any] = {name: value for name, value in network.items() if name.startswith("mod")}
        weights |= {"bn_out.0.weight": torch.zeros(4096), "classifier.fc.weight": torch.zeros(1000, 4096)}
    if wrapper != "bare":
        weights = {f"module.{name}": value for name, value in weights.items()}
    fitted = fit_weights({"state_dict": weights, "epoch": 3} if wrapper == "state_dict" else weights, model)
    part = fitted.parts["backbone"]
    assert part.loaded == part.total == sum("num_batches" not in name for name in network if name.startswith("mod"))
    assert fitted.unused == ("bn_out.0.weight", "classifier.fc.weight")
    assert fitted.parts["head"].loaded == fitted.parts["shape stream"].loaded == 0


@pytest.fixture(scope="module")
def released() -> dict[str, Tensor]:
    """Each tensor filled with a number of its own, stored once."""
    with META:
        shapes = {name: value.shape for name, value in ReleasedNetwork().state_dict().items()}
    return {name: torch.tensor(0.001 * number).expand(shape) for number, (name, shape) in enumerate(shapes.items())}


def on_meta(network: type[SegmentationModel], classes: int) -> SegmentationModel:
    with META:
        return network("wide_resnet38", classes)


def test_the_released_checkpoint_is_loaded_whole_with_its_prior_scaled_to_one(released: dict[str, Tensor]) -> None:
    fitted = fit_weights({"state_dict": released}, on_meta(GatedSCNN, 19))
    expected = with_unit_prior(convert_released_state_dict(released))
    assert fitted.tensors.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in fitted.tensors.items())
    assert fitted.unused == ("dsn1.weight", "dsn1.bias")
    number = float(released["cw.weight"].flatten()[0])
    assert expected["shape_stream.to_feature.weight"].flatten().tolist() == pytest.approx([number, 255 * number])


def test_the_released_checkpoint_with_other_classes_keeps_all_but_the_classifier(released: dict[str, Tensor]) -> None:
    fitted = fit_weights(released, on_meta(GatedSCNN, 11))
    shapes = "[19, 256, 1, 1] in the file, [11, 256, 1, 1] in the model"
    assert fitted.other_shape == (f"head.classifier.6.weight is {shapes}",)


def test_the_controls_projection_of_five_branches_is_not_filled_from_six(released: dict[str, Tensor]) -> None:
    fitted = fit_weights(released, on_meta(DeepLabV3Plus, 19))
    assert [each.split()[0] for each in fitted.other_shape] == ["fusion.project.weight"]
    assert fitted.parts["backbone"].loaded == fitted.parts["backbone"].total


def vgg() -> dict[str, Tensor]:
    return torchvision.models.vgg11().features.state_dict()


def shallower() -> dict[str, Tensor]:
    return torchvision.models.resnet18().state_dict()


@pytest.mark.parametrize(
    ("weights", "named"),
    [
        (vgg, ["0 of the 265 tensors", "not in the file: regular_stream.stem.0.weight"]),
        (vgg, ["In the file and not in the model: 0.weight, 0.bias, ", "and 8 more"]),
        (shallower, ["fewer than half", "layer1.0.conv1.weight is [64, 64, 3, 3] in the file, [64, 64, 1, 1] in"]),
        (dict, ["fewer than half", "It has no other tensors"]),
    ],
    ids=["another family", "and what it has", "another depth", "empty"],
)
def test_another_networks_weights_are_refused_with_what_does_not_fit(
    weights: Callable[[], dict[str, Tensor]], named: list[str]
) -> None:
    with META:
        model, content = GatedSCNN("resnet50", 19), weights()
    with pytest.raises(WeightsMisfitError) as caught:
        fit_weights(content, model)
    assert [part for part in named if part not in str(caught.value)] == []
    assert len(str(caught.value)) < 2500


def test_half_of_the_backbone_is_enough_and_less_is_not() -> None:
    with META:
        model = DeepLabV3Plus("resnet18", 3)
        weights = ResNetBackbone("resnet18", 8, None).state_dict()
    counted = {f"regular_stream.{name}": value for name, value in weights.items() if "num_batches" not in name}
    half = dict(list(counted.items())[:50])
    assert fit_weights(half, model).parts["backbone"] == Part(50, 100)
    half.popitem()
    with pytest.raises(WeightsMisfitError, match="49 of the 100 tensors"):
        fit_weights(half, model)
