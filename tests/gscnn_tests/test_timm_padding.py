"""TensorFlow's padding of timm's layers."""

import math
from collections.abc import Iterator
from itertools import product

import pytest
import torch
from torch import nn

timm = pytest.importorskip("timm")
from gscnn.backbones.timm_padding import make_padding_exportable, pad_same  # noqa: E402

SIDES = range(1, 14)
WINDOWS = [(2, 1, 1), (2, 2, 1), (3, 1, 1), (3, 2, 1), (3, 2, 2), (5, 2, 1), (5, 3, 1), (7, 4, 1)]
"""Kernel, stride, dilation."""
LAYERED = ("tf_efficientnet_lite0", "tf_mobilenetv3_small_minimal_100", "resnetv2_50x1_bit", "dm_nfnet_f0")


def sums_by_definition(values: list[float], kernel: int, stride: int, dilation: int) -> Iterator[float]:
    """Sums over the windows of "same" padding, one dimension, cell by cell."""
    count = math.ceil(len(values) / stride)
    total = max((count - 1) * stride + (kernel - 1) * dilation + 1 - len(values), 0)
    for index in range(count):
        cells = (index * stride - total // 2 + step * dilation for step in range(kernel))
        yield sum(values[cell] for cell in cells if 0 <= cell < len(values))


@pytest.mark.parametrize("exporting", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), WINDOWS)
def test_windows_over_the_padded_input_are_those_of_the_definition(
    kernel: int, stride: int, dilation: int, exporting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: exporting)
    span = (kernel - 1) * dilation + 1
    for side in SIDES:
        x = torch.rand(side, dtype=torch.float64)
        expected = torch.tensor(list(sums_by_definition(x.tolist(), kernel, stride, dilation)), dtype=torch.float64)
        for shape, spans, strides in (
            ((1, 1, side, 1), (span, 1), (stride, 1)),
            ((1, 1, 1, side), (1, span), (1, stride)),
        ):
            padded = pad_same(x.view(shape), spans, strides)
            window = torch.ones(1, 1, *(kernel if each == span else 1 for each in spans), dtype=torch.float64)
            sums = nn.functional.conv2d(padded, window, stride=strides, dilation=dilation)
            torch.testing.assert_close(sums.flatten(), expected)


@pytest.mark.parametrize("name", LAYERED)
def test_networks_keep_their_results_exactly(name: str) -> None:
    torch.manual_seed(0)
    theirs, ours = (timm.create_model(name, features_only=True, out_indices=(0, 1, 2)).eval() for _ in range(2))
    ours.load_state_dict(theirs.state_dict())
    make_padding_exportable(ours)
    for height, width in product((33, 34), repeat=2):
        image = torch.rand(1, 3, height, width)
        with torch.no_grad():
            assert all(torch.equal(one, other) for one, other in zip(theirs(image), ours(image), strict=True))
