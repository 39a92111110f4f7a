import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import Tensor, nn

from gscnn.backbones import BACKBONES
from gscnn.backbones.taps import Taps
from gscnn.config import ModelConfig
from gscnn.fusion import FeatureFusion
from gscnn.model import DeepLabV3Plus, GatedSCNN, build_model
from gscnn.shape_stream import GatedConv, ShapeStream

META = torch.device("meta")
"""Shapes without values: the large backbones cost nothing there."""

TINY = {
    "backbone": "resnet18",
    "num_classes": 4,
    "aspp_channels": 8,
    "low_level_channels": 6,
    "shape_widths": (8, 6, 4, 4),
}


def tiny(architecture: str = "gscnn", **fields: object) -> GatedSCNN | DeepLabV3Plus:
    """A small model with the same weights at every call."""
    torch.manual_seed(0)
    model = build_model(ModelConfig.model_validate({"architecture": architecture, **TINY, **fields}))
    assert isinstance(model, GatedSCNN | DeepLabV3Plus)
    return model


def inputs(images: int = 2, size: tuple[int, int] = (33, 47), device: torch.device | None = None) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(images, 3, *size, generator=generator)
    return image.to(device), torch.rand(images, 1, *size, generator=generator).to(device)


def randomise_statistics(module: nn.Module) -> None:
    """So that batch norm in eval mode is no identity, and a wrong order of layers shows."""
    generator = torch.Generator().manual_seed(2)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.copy_(torch.randn(norm.num_features, generator=generator) / 2)
            norm.running_var.copy_(0.5 + torch.rand(norm.num_features, generator=generator))
            nn.init.uniform_(norm.weight, 0.5, 1.5, generator=generator)
            nn.init.uniform_(norm.bias, -0.5, 0.5, generator=generator)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("backbone", "parameters"), [("resnet50", 40_523_949), ("resnet101", 59_516_077)])
def test_parameter_counts_are_those_of_the_paper_model(backbone: str, parameters: int) -> None:
    with META:
        model = GatedSCNN(backbone, num_classes=19)
    assert count(model) == parameters
    assert count(model.shape_stream) == 106_605


def test_the_control_is_the_same_model_without_shape_stream_and_edge_branch() -> None:
    with META:
        model, control = GatedSCNN("resnet50"), DeepLabV3Plus("resnet50")
    expected = {
        name: tuple(parameter.shape)
        for name, parameter in model.named_parameters()
        if not name.startswith(("shape_stream.", "fusion.edge_branch."))
    }
    assert expected["fusion.project.weight"] == (256, 6 * 256, 1, 1)
    expected["fusion.project.weight"] = (256, 5 * 256, 1, 1)
    assert {name: tuple(parameter.shape) for name, parameter in control.named_parameters()} == expected


@pytest.mark.parametrize(("output_stride", "rates"), [(8, [12, 24, 36]), (16, [6, 12, 18])])
def test_aspp_rates_follow_the_output_stride(output_stride: int, rates: list[int]) -> None:
    for model in (tiny(output_stride=output_stride), tiny("deeplabv3plus", output_stride=output_stride)):
        dilations = [m.dilation[0] for m in model.fusion.modules() if isinstance(m, nn.Conv2d) and m.dilation[0] > 1]
        assert dilations == rates


def test_aspp_rates_halve_again_at_output_stride_32() -> None:
    model = tiny(backbone="timm/resnet10t", output_stride=32)
    dilations = [m.dilation[0] for m in model.fusion.modules() if isinstance(m, nn.Conv2d) and m.dilation[0] > 1]
    assert dilations == [3, 6, 9]


def test_given_aspp_rates_are_taken() -> None:
    model = tiny(aspp_rates=(2, 3, 5))
    dilations = [m.dilation[0] for m in model.fusion.modules() if isinstance(m, nn.Conv2d) and m.dilation[0] > 1]
    assert dilations == [2, 3, 5]


def test_segmentation_reads_the_gradient_and_edge_logits_do_not() -> None:
    """The prior joins after the edge logits, on the way into the fusion."""
    model = tiny()
    image, gradient = inputs()
    with torch.no_grad():
        first, second = model(image, gradient), model(image, 1 - gradient)
    assert (first.seg_logits - second.seg_logits).abs().max() > 0.01 * first.seg_logits.std()
    assert torch.equal(first.edge_logits, second.edge_logits)


def test_the_control_does_not_read_the_gradient() -> None:
    control = tiny("deeplabv3plus").eval()
    image, gradient = inputs()
    with torch.no_grad():
        logits = [control(image, g).seg_logits for g in (gradient, 1 - gradient, None)]
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])


def test_every_parameter_of_the_shape_stream_learns_from_the_segmentation_alone() -> None:
    model = tiny()
    assert isinstance(model, GatedSCNN)
    model(*inputs()).seg_logits.square().mean().backward()
    for name, parameter in model.shape_stream.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_gated_convolution_is_the_written_formula() -> None:
    """conv1x1(feature * (sigmoid(BN1(conv1x1(ReLU(conv1x1(BN(cat(feature, gate))))))) + 1)), pixel by pixel."""
    torch.manual_seed(0)
    channels, out_channels = 3, 2
    gated = GatedConv(channels, out_channels).double().eval()
    randomise_statistics(gated)
    feature, gate = torch.randn(2, channels, 4, 5).double(), torch.randn(2, 1, 4, 5).double()
    weights = {name: value.detach().numpy() for name, value in gated.state_dict().items()}
    assert len([name for name in weights if not name.endswith("num_batches_tracked")]) == 4 + 2 + 2 + 4 + 1

    def batch_norm(x: np.ndarray, layer: str) -> np.ndarray:
        scale = weights[f"{layer}.weight"] / np.sqrt(weights[f"{layer}.running_var"] + 1e-5)
        return (x - weights[f"{layer}.running_mean"]) * scale + weights[f"{layer}.bias"]

    expected = np.zeros((2, out_channels, 4, 5))
    for b, y, x in np.ndindex(2, 4, 5):
        pixel = feature[b, :, y, x].numpy()
        z = batch_norm(np.append(pixel, gate[b, 0, y, x].item()), "attention.0")
        z = weights["attention.1.weight"][:, :, 0, 0] @ z + weights["attention.1.bias"]
        z = weights["attention.3.weight"][:, :, 0, 0] @ np.maximum(z, 0) + weights["attention.3.bias"]
        attention = 1 / (1 + math.exp(-batch_norm(z, "attention.4").item()))
        expected[b, :, y, x] = weights["conv.weight"][:, :, 0, 0] @ (pixel * (attention + 1))
    with torch.no_grad():
        torch.testing.assert_close(gated(feature, gate), torch.from_numpy(expected), rtol=1e-12, atol=1e-12)


def test_the_shape_feature_weighs_predicted_edge_and_prior() -> None:
    torch.manual_seed(0)
    stream = ShapeStream(Taps(6, 7, 8, 9, 10), widths=(6, 5, 4, 3)).eval()
    generator = torch.Generator().manual_seed(3)
    taps = Taps(
        *(
            torch.randn(2, c, h, h + 1, generator=generator)
            for c, h in zip((6, 7, 8, 9, 10), (8, 4, 2, 2, 2), strict=True)
        )
    )
    _, gradient = inputs(size=(16, 18))
    with torch.no_grad():
        edge_logits, feature = stream(taps, gradient)
    edge_weight, prior_weight = stream.to_feature.weight.detach().flatten().double()
    z = edge_weight / (1 + torch.exp(-edge_logits.double())) + prior_weight * gradient.double()
    torch.testing.assert_close(feature.double(), 1 / (1 + torch.exp(-z)), rtol=1e-5, atol=1e-6)


def test_synchronized_batch_norm_lifts_the_limit_of_one_image() -> None:
    """What then refuses on one CPU is torch's own layer, which needs other workers or a GPU."""
    fusion = FeatureFusion(4, (1, 2, 3), channels=4, with_edge=False)
    synchronized = nn.SyncBatchNorm.convert_sync_batchnorm(fusion)
    top = torch.randn(1, 4, 5, 5)
    with pytest.raises(ValueError, match="one image in training mode"):
        FeatureFusion(4, (1, 2, 3), channels=4, with_edge=False)(top, None)
    with pytest.raises(ValueError, match=r"SyncBatchNorm|more than 1 value per channel"):
        synchronized(top, None)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("shape", [(2, 33, 47), (1, 1, 33, 47), (2, 3, 33, 47), (2, 1, 33, 46), (2, 1, 47, 33)])
def test_a_gradient_of_another_shape_than_the_images_is_an_error(shape: tuple[int, ...]) -> None:
    image, _ = inputs()
    with pytest.raises(ValueError, match=r"gradient is \(.*image is \(2, 3, 33, 47\): need \[B, 1, H, W\]"):
        tiny()(image, torch.zeros(shape))


def test_the_config_chooses_the_architecture() -> None:
    assert type(tiny("gscnn")) is GatedSCNN
    assert type(tiny("deeplabv3plus")) is DeepLabV3Plus


WRONG = [
    ({"backbone": "resnet49"}, ["resnet49", *BACKBONES]),
    ({"output_stride": 4}, ["output_stride", "8, 16 or 32"]),
    ({"weights": "coco"}, ["weights", "resnet18 offers imagenet or IMAGENET1K_V1 or None"]),
    ({"num_classes": 1}, ["num_classes", "2"]),
    ({"aspp_channels": 0}, ["aspp_channels", "1"]),
]


@pytest.mark.parametrize(
    ("fields", "named"),
    [*WRONG, ({"aspp_rate": (1, 2, 3)}, ["aspp_rate"]), ({"shape_widths": (8, 8)}, ["shape_widths"])],
)
def test_a_wrong_field_is_an_error_that_names_it_and_what_there_is(fields: dict[str, object], named: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        ModelConfig.model_validate({**TINY, **fields})
    assert [name for name in named if name not in str(caught.value)] == []


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("model", [GatedSCNN, DeepLabV3Plus])
@pytest.mark.parametrize(("fields", "named"), WRONG)
def test_a_constructor_refuses_what_the_config_refuses(
    model: type[GatedSCNN | DeepLabV3Plus], fields: dict[str, Any], named: list[str]
) -> None:
    with pytest.raises(ValueError) as caught:
        model(**{"backbone": "resnet18", **fields})
    assert [name for name in named if name not in str(caught.value)] == []


def test_a_misspelt_argument_of_a_constructor_is_an_error_that_names_it() -> None:
    with pytest.raises(TypeError, match="aspp_rate"):
        GatedSCNN("resnet18", aspp_rate=(1, 2, 3))  # pyright: ignore[reportCallIssue]


def test_an_unknown_architecture_is_an_error_that_names_both() -> None:
    with pytest.raises(ValueError, match=r"'gscnn' or 'deeplabv3plus'"):
        ModelConfig.model_validate({"architecture": "unet"})


def test_a_kaiming_start_is_normal_by_fan_in_without_biases_in_all_but_the_backbone() -> None:
    torch.manual_seed(0)
    model = GatedSCNN("resnet18", num_classes=19, init="kaiming")
    plain = tiny()
    assert isinstance(plain, GatedSCNN)
    for part in (model.shape_stream, model.fusion, model.head):
        convolutions = [module for module in part.modules() if isinstance(module, nn.Conv2d)]
        assert convolutions
        for convolution in convolutions:
            weight = convolution.weight.detach()
            fan_in = weight[0].numel()
            assert convolution.bias is None or not convolution.bias.any()
            if weight.numel() > 20_000:
                assert weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.03)
                assert kstest(weight.flatten()[:5000].numpy() / math.sqrt(2 / fan_in), "norm").pvalue > 1e-3
    assert plain.shape_stream.reduce1.bias is not None
    assert plain.shape_stream.reduce1.bias.any()


def test_the_start_of_the_backbone_is_not_changed_by_init() -> None:
    torch_start, kaiming = tiny(), tiny(init="kaiming")
    for name, value in torch_start.regular_stream.state_dict().items():
        assert torch.equal(kaiming.regular_stream.state_dict()[name], value), name
    assert not torch.equal(kaiming.head.low_level.weight, torch_start.head.low_level.weight)
    control = tiny("deeplabv3plus", init="kaiming")
    assert control.fusion.project.weight.std().item() == pytest.approx(math.sqrt(2 / (5 * 8)), rel=0.15)
