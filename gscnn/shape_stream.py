"""The shape stream: a narrow stream at full resolution that carries only outlines.

Gates computed from the regular stream suppress texture and colour (arXiv:1907.05740, section 3.1).
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from gscnn.backbones.taps import Taps
from gscnn.layout import PointwiseConv, cat_channels, fast_layout
from gscnn.resize import resize


class GatedConv(nn.Module):
    """Gated convolution (eq. 1 and 2): `conv1x1(feature * (attention + 1))`.

    The attention map is `sigmoid(BN(conv1x1(ReLU(conv1x1(BN(cat(feature, gate)))))))`, with one channel.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.BatchNorm2d(in_channels + 1),
            PointwiseConv(in_channels + 1, in_channels + 1),
            nn.ReLU(inplace=True),
            PointwiseConv(in_channels + 1, 1),
            nn.BatchNorm2d(1),
            nn.Sigmoid(),
        )
        self.conv = PointwiseConv(in_channels, out_channels, bias=False)

    def forward(self, feature: Float[Tensor, "B C H W"], gate: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B D H W"]:
        attention = self.attention(cat_channels((feature, gate)))
        return self.conv(feature * (attention + 1))


class ShapeStreamOutput(NamedTuple):
    edge_logits: Float[Tensor, "B 1 H W"]
    feature: Float[Tensor, "B 1 H W"]
    """The input of the fusion: predicted edge and edge prior, weighted and squashed to [0, 1]."""


class ShapeStream(nn.Module):
    """Three residual blocks, each followed by a gate, from the backbone's taps to edge logits.

    Args:
        tap_channels: channel counts of the backbone's taps. Every tap is resized to the stream, whatever its stride.
        widths: channels of the three residual blocks and of the last gate; (64, 32, 16, 8) in the paper. If the first
            differs from the stem's width, a 1x1 convolution before the resize adapts it.
        stride: image size divided by the size at which the stream works; 1 in the paper. Above 1, its edge logits are
            resized to the image, and the edge prior joins them there, at full resolution.
    """

    def __init__(
        self, tap_channels: Taps[int], widths: tuple[int, int, int, int] = (64, 32, 16, 8), stride: int = 1
    ) -> None:
        super().__init__()
        self.stride = stride
        first, second, third, last = widths
        same = tap_channels.stem == first
        self.entry = nn.Identity() if same else PointwiseConv(tap_channels.stem, first)
        self.block1 = BasicBlock(first, first)
        self.block2 = BasicBlock(second, second)
        self.block3 = BasicBlock(third, third)
        self.reduce1 = PointwiseConv(first, second)
        self.reduce2 = PointwiseConv(second, third)
        self.reduce3 = PointwiseConv(third, last)
        self.to_gate1 = PointwiseConv(tap_channels.gate1, 1)
        self.to_gate2 = PointwiseConv(tap_channels.gate2, 1)
        self.to_gate3 = PointwiseConv(tap_channels.top, 1)
        self.gated_conv1 = GatedConv(second, second)
        self.gated_conv2 = GatedConv(third, third)
        self.gated_conv3 = GatedConv(last, last)
        self.to_edge = PointwiseConv(last, 1, bias=False)
        self.to_feature = PointwiseConv(2, 1, bias=False)

    def forward(self, taps: Taps[Tensor], gradient: Float[Tensor, "B 1 H W"]) -> ShapeStreamOutput:
        height, width = gradient.shape[-2:]
        # Rounded up, as a strided convolution does: at stride 2, a stem of stride 2 is not resized at all.
        size = torch.Size(((height - 1) // self.stride + 1, (width - 1) // self.stride + 1))
        x = resize(fast_layout(self.entry(taps.stem)), size)
        x = self.gated_conv1(self.reduce1(self.block1(x)), resize(self.to_gate1(taps.gate1), size))
        x = self.gated_conv2(self.reduce2(self.block2(x)), resize(self.to_gate2(taps.gate2), size))
        x = self.gated_conv3(self.reduce3(self.block3(x)), resize(self.to_gate3(taps.top), size))
        edge_logits = self.to_edge(x)
        if self.stride > 1:
            edge_logits = resize(edge_logits, gradient.shape[-2:])
        # As products: a 1x1 convolution of two channels needs a concatenation. Under autocast all stays in bfloat16.
        edge_weight, prior_weight = self.to_feature.weight.to(edge_logits.dtype).unbind(dim=1)
        prior = gradient.to(edge_logits.dtype)
        feature = torch.sigmoid(edge_weight * torch.sigmoid(edge_logits) + prior_weight * prior)
        return ShapeStreamOutput(edge_logits, feature)
