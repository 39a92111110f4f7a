"""The shape stream against its formulas, written out with torch's plain operations in the default layout."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.autograd.profiler import profile
from torch.nn.functional import batch_norm, conv2d, interpolate, relu

from gscnn.backbones.taps import Taps
from gscnn.config import ModelConfig
from gscnn.layout import PointwiseConv, cat_channels
from gscnn.model import build_model
from gscnn.shape_stream import ShapeStream

CHANNELS, TAP_SIZES, SIZE = Taps(6, 7, 8, 9, 10), ((14, 19), (7, 10), (4, 5), (2, 3), (2, 3)), (27, 37)
WIDTHS = (5, 6, 4, 3)
"""Odd and even, and none is the stem's: the entry is a convolution."""

LAYOUTS = {"default": torch.contiguous_format, "channels_last": torch.channels_last}
every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))


class PlainStream:
    """arXiv:1907.05740, figure 2 and eq. 1 and 2, in training mode; reads the stream's parameters by name."""

    def __init__(self, stream: ShapeStream, stride: int) -> None:
        self.values, self.stride = dict(stream.named_parameters()), stride

    def conv(self, name: str, x: Tensor, padding: int = 0) -> Tensor:
        return conv2d(x, self.values[f"{name}.weight"], self.values.get(f"{name}.bias"), padding=padding)

    def norm(self, name: str, x: Tensor) -> Tensor:
        return batch_norm(x, None, None, self.values[f"{name}.weight"], self.values[f"{name}.bias"], training=True)

    def block(self, name: str, x: Tensor) -> Tensor:
        y = relu(self.norm(f"{name}.bn1", self.conv(f"{name}.conv1", x, padding=1)))
        return relu(self.norm(f"{name}.bn2", self.conv(f"{name}.conv2", y, padding=1)) + x)

    def gated(self, name: str, feature: Tensor, gate: Tensor) -> Tensor:
        x = self.norm(f"{name}.attention.0", torch.cat((feature, gate), dim=1))
        x = self.conv(f"{name}.attention.3", relu(self.conv(f"{name}.attention.1", x)))
        return self.conv(f"{name}.conv", feature * (torch.sigmoid(self.norm(f"{name}.attention.4", x)) + 1))

    def __call__(self, taps: Taps[Tensor], gradient: Tensor) -> tuple[Tensor, Tensor]:
        inside = tuple(-(-side // self.stride) for side in SIZE)

        def resized(x: Tensor, size: tuple[int, ...]) -> Tensor:
            return interpolate(x, size=size, mode="bilinear", align_corners=True)

        # A resize before a 1x1 convolution gives what a resize after it gives: both are linear, and a bilinear
        # resize keeps the bias.
        x = self.conv("entry", resized(taps.stem, inside))
        for number, tap in enumerate((taps.gate1, taps.gate2, taps.top), start=1):
            x = self.conv(f"reduce{number}", self.block(f"block{number}", x))
            x = self.gated(f"gated_conv{number}", x, self.conv(f"to_gate{number}", resized(tap, inside)))
        edge_logits = resized(self.conv("to_edge", x), SIZE)
        return edge_logits, torch.sigmoid(
            self.conv("to_feature", torch.cat((torch.sigmoid(edge_logits), gradient), dim=1))
        )


def stream_and_inputs(
    layout: torch.memory_format, dtype: torch.dtype, stride: int = 1
) -> tuple[ShapeStream, Taps[Tensor], Tensor]:
    torch.manual_seed(0)
    stream = ShapeStream(CHANNELS, WIDTHS, stride)
    for norm in stream.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.5, 0.5)
    taps = [torch.randn(2, channels, *size) for channels, size in zip(CHANNELS, TAP_SIZES, strict=True)]
    placed = Taps(*(tap.to(dtype).contiguous(memory_format=layout).requires_grad_() for tap in taps))
    return stream.to(dtype).to(memory_format=layout), placed, torch.rand(2, 1, *SIZE).to(dtype)


def outputs_and_gradients(way: Any, stream: ShapeStream, taps: Taps[Tensor], gradient: Tensor) -> dict[str, Tensor]:
    """Of the sum of both outputs, each weighted by noise: edge logits, feature, and the gradient of all they read."""
    edge_logits, feature = way(taps, gradient)
    generator = torch.Generator().manual_seed(5)
    weights = [torch.randn(edge_logits.shape, generator=generator).to(feature.dtype) for _ in range(2)]
    read = {
        "stem": taps.stem,
        "gate1": taps.gate1,
        "gate2": taps.gate2,
        "top": taps.top,
        **dict(stream.named_parameters()),
    }
    gradients = torch.autograd.grad((edge_logits * weights[0] + feature * weights[1]).sum(), list(read.values()))
    return {"edge_logits": edge_logits, "feature": feature, **dict(zip(read, gradients, strict=True))}


@every_layout
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_outputs_and_gradients_are_those_of_the_formulas(layout: torch.memory_format, stride: int) -> None:
    stream, taps, gradient = stream_and_inputs(layout, torch.float64, stride)
    found = outputs_and_gradients(stream, stream, taps, gradient)
    expected = outputs_and_gradients(PlainStream(stream, stride), stream, taps, gradient)
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-10, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}"
        )
    assert found["edge_logits"].std() > 0.1


@every_layout
def test_float32_is_as_close_to_float64_as_the_formulas_in_float32(layout: torch.memory_format) -> None:
    stream, taps, gradient = stream_and_inputs(layout, torch.float32)
    found = outputs_and_gradients(stream, stream, taps, gradient)
    plain = outputs_and_gradients(PlainStream(stream, 1), stream, taps, gradient)
    stream, taps, gradient = stream_and_inputs(layout, torch.float64)
    exact = outputs_and_gradients(PlainStream(stream, 1), stream, taps, gradient)

    def errors(values: dict[str, Tensor]) -> dict[str, float]:
        return {
            name: ((values[name] - value).norm() / value.norm().clamp(min=1)).item() for name, value in exact.items()
        }

    # Gradients of biases are sums of terms that nearly cancel: with the formulas too, they are off by up to 2e-5.
    allowed = {name: max(1e-5, 3 * error) for name, error in errors(plain).items()}
    assert {name: error for name, error in errors(found).items() if error > allowed[name]} == {}
    assert max(allowed.values()) < 1e-4


@every_layout
def test_bf16_autocast_gives_bf16(layout: torch.memory_format) -> None:
    stream, taps, gradient = stream_and_inputs(layout, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        edge_logits, feature = stream(taps, gradient)
    assert edge_logits.dtype == feature.dtype == torch.bfloat16
    exact, _ = stream(taps, gradient)
    torch.testing.assert_close(edge_logits.float(), exact, rtol=0.1, atol=0.1)


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
def test_no_convolution_is_slow_on_one_core() -> None:
    stream, taps, gradient = stream_and_inputs(torch.channels_last, torch.float32)
    profiled = profile()
    with profiled:
        outputs_and_gradients(stream, stream, taps, gradient)
    names = {event.key for event in profiled.key_averages()}
    assert "aten::mkldnn_convolution" in names
    assert [name for name in names if "slow_conv" in name] == []


@every_layout
def test_the_stream_is_in_channels_last_and_the_backbone_keeps_its_layout(layout: torch.memory_format) -> None:
    """A map of another layout among its like makes every elementwise operation several times as slow."""
    stream, taps, gradient = stream_and_inputs(layout, torch.float32)
    maps: dict[str, Tensor] = {}
    for name, module in stream.named_modules():
        if name.startswith(("block", "reduce", "gated")):
            module.register_forward_hook(lambda _, __, output, name=name: maps.update({name: output}))
    outputs_and_gradients(stream, stream, taps, gradient)
    stream(taps, gradient).feature.sum().backward()
    wide = {name: value for name, value in maps.items() if value.shape[1] > 1}
    assert {"block1", "block3.bn1", "gated_conv1.attention.1", "gated_conv3"} <= set(wide)
    last = torch.channels_last
    assert [name for name, value in wide.items() if not value.is_contiguous(memory_format=last)] == []
    assert taps.stem.grad is not None
    assert taps.stem.grad.is_contiguous(memory_format=layout)


@every_layout
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_a_pointwise_convolution_is_the_1x1_convolution(
    layout: torch.memory_format, dtype: torch.dtype, bias: bool
) -> None:
    torch.manual_seed(0)
    ours = PointwiseConv(5, 3, bias=bias).to(dtype)
    torch.manual_seed(0)
    plain = nn.Conv2d(5, 3, kernel_size=1, bias=bias).to(dtype)
    assert all(torch.equal(plain.state_dict()[name], value) for name, value in ours.state_dict().items())
    x = torch.randn(2, 5, 6, 7).to(dtype).contiguous(memory_format=layout)
    torch.testing.assert_close(ours(x), plain(x), rtol=2 * torch.finfo(dtype).eps, atol=4 * torch.finfo(dtype).eps)


@every_layout
def test_concatenated_channels_keep_the_first_parts_layout(layout: torch.memory_format) -> None:
    first, single = torch.randn(2, 3, 4, 5).contiguous(memory_format=layout), torch.randn(2, 1, 4, 5)
    both = cat_channels((first, single))
    assert torch.equal(both, torch.cat((first, single), dim=1))
    assert both.is_contiguous(memory_format=layout)


@pytest.mark.parametrize(("stride", "inside"), [(1, (33, 47)), (2, (17, 24)), (4, (9, 12))])
def test_the_stream_works_at_its_stride_and_edge_logits_have_the_images_size(
    stride: int, inside: tuple[int, int]
) -> None:
    model = small(stride)
    sizes: list[torch.Size] = []
    model.get_submodule("shape_stream.block1").register_forward_hook(lambda _, __, output: sizes.append(output.shape))
    output = model(torch.randn(2, 3, 33, 47), torch.rand(2, 1, 33, 47))
    assert sizes == [(2, 8, *inside)]
    assert output.edge_logits is not None
    assert output.edge_logits.shape == (2, 1, 33, 47)


def test_weights_fit_at_every_stride() -> None:
    names = {stride: {name: value.shape for name, value in small(stride).state_dict().items()} for stride in (1, 2, 4)}
    assert names[1] == names[2] == names[4]


def small(stride: int) -> nn.Module:
    settings = {"backbone": "resnet10_small", "num_classes": 3, "aspp_channels": 8, "shape_widths": (8, 6, 4, 4)}
    return build_model(ModelConfig.model_validate({**settings, "shape_stride": stride}))


@pytest.mark.parametrize("stride", [0, 3, 8, 2.5, "half"])
def test_another_stride_is_an_error_that_names_what_there_is(stride: object) -> None:
    with pytest.raises(ValidationError, match=r"shape_stride\n.*1, 2 or 4"):
        ModelConfig.model_validate({"shape_stride": stride})
