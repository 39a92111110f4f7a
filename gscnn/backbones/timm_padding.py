"""TensorFlow's "same" padding of timm's layers, in a form that torch.export accepts for images of any size.

A side of n cells becomes ceil(n / stride): an input is padded by max(K - stride + (-n mod stride), 0) cells, half of
them, rounded down, before it; K = (kernel - 1) * dilation + 1. The amounts depend on n, so torch.export would have to
know n. An exported program pads every input by the same number of cells, the most that any n needs, and cuts off the
first cells that this n does not need; elsewhere that would cost tf_efficientnet_lite0 a tenth of its step. Source of
the padding: tf.nn.convolution's documentation.
"""

from functools import partial
from typing import Any, Final

import torch
from jaxtyping import Float
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from timm.layers.std_conv import ScaledStdConv2dSame, StdConv2dSame
from torch import Tensor, nn
from torch.nn.functional import pad

PLAIN: Final[dict[type[nn.Module], type[nn.Module]]] = {
    Conv2dSame: nn.Conv2d,
    AvgPool2dSame: nn.AvgPool2d,
    MaxPool2dSame: nn.MaxPool2d,
}
"""timm's layer -> the layer of PyTorch that it is after its padding."""


def make_padding_exportable(network: nn.Module) -> None:
    """Replaces the padding in timm's layers by `pad_same` as a hook; their results stay the same."""
    layers: list[Any] = list(network.modules())
    for layer in layers:
        kind = type(layer)
        standardized = issubclass(kind, StdConv2dSame | ScaledStdConv2dSame) and layer.same_pad
        plain = PLAIN.get(kind)
        if plain is None and not standardized:
            continue
        kernel, stride = _pair(layer.kernel_size), _pair(layer.stride)
        dilation = _pair(getattr(layer, "dilation", 1))
        spans = tuple((side - 1) * step + 1 for side, step in zip(kernel, dilation, strict=True))
        if any(1 < span < step for span, step in zip(spans, stride, strict=True)):
            continue  # Some inputs need no padding at all: timm's own stays.
        if plain is None:
            layer.same_pad = False
        else:
            layer.__class__ = plain
        if spans != (1, 1):
            fill = float("-inf") if plain is nn.MaxPool2d else 0.0
            layer.register_forward_pre_hook(partial(_padded, spans=spans, stride=stride, fill=fill))


def pad_same(
    x: Float[Tensor, "B C H W"], spans: tuple[int, int], stride: tuple[int, int], fill: float = 0.0
) -> Float[Tensor, "B C H_padded W_padded"]:
    """The input of a convolution or pooling without padding, whose result has ceil(H / stride), ceil(W / stride) cells.

    Args:
        x: the map to pad.
        spans: (kernel - 1) * dilation + 1 in both directions, each 1 or at least the stride.
        stride: in both directions.
        fill: value of the new cells.
    """
    sides = list(zip(x.shape[-2:], spans, stride, strict=True))
    rows, columns = (0 if span == 1 else span - step + -side % step for side, span, step in sides)
    top, left = rows // 2, columns // 2
    if not torch.compiler.is_exporting():
        return pad(x, (left, columns - left, top, rows - top), value=fill)
    most = [(span - 1) // 2 for span in spans]
    # Behind, enough for the cells that are cut off before.
    behind = [span - 1 - before + step - 1 for before, (_, span, step) in zip(most, sides, strict=True)]
    height, width = (side + span - 1 for side, span, _ in sides)
    x = pad(x, (most[1], behind[1], most[0], behind[0]), value=fill)
    return x.narrow(-2, most[0] - top, height).narrow(-1, most[1] - left, width)


def _padded(_: nn.Module, inputs: tuple[Tensor], **settings: Any) -> Tensor:
    return pad_same(*inputs, **settings)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
