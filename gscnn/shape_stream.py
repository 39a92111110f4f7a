"""The shape stream: a narrow stream at full resolution that carries only outlines.

Gates computed from the regular stream suppress texture and colour (arXiv:1907.05740, section 3.1).
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from gscnn.backbones.taps import Taps
from gscnn.resize import resize


class GatedConv(nn.Module):
    """Gated convolution (eq. 1 and 2): `conv1x1(feature * (attention + 1))`.

    The attention map is `sigmoid(BN(conv1x1(ReLU(conv1x1(BN(cat(feature, gate)))))))`, with one channel.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.BatchNorm2d(in_channels + 1),
            nn.Conv2d(in_channels + 1, in_channels + 1, kernel_size=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(in_channels + 1, 1, kernel_size=1),
            nn.BatchNorm2d(1),
            nn.Sigmoid(),
        )
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False)

    def forward(self, feature: Float[Tensor, "B C H W"], gate: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B D H W"]:
        attention = self.attention(torch.cat((feature, gate), dim=1))
        return self.conv(feature * (attention + 1))


class ShapeStreamOutput(NamedTuple):
    edge_logits: Float[Tensor, "B 1 H W"]
    feature: Float[Tensor, "B 1 H W"]
    """The input of the fusion: predicted edge and edge prior, weighted and squashed to [0, 1]."""


class ShapeStream(nn.Module):
    """Three residual blocks, each followed by a gate, from the backbone's taps to edge logits.

    Args:
        tap_channels: channel counts of the backbone's taps. Every tap is resized to the image, whatever its stride.
        widths: channels of the three residual blocks and of the last gate; (64, 32, 16, 8) in the paper. If the first
            differs from the stem's width, a 1x1 convolution before the resize adapts it.
    """

    def __init__(self, tap_channels: Taps[int], widths: tuple[int, int, int, int] = (64, 32, 16, 8)) -> None:
        super().__init__()
        first, second, third, last = widths
        same = tap_channels.stem == first
        self.entry = nn.Identity() if same else nn.Conv2d(tap_channels.stem, first, kernel_size=1)
        self.block1 = BasicBlock(first, first)
        self.block2 = BasicBlock(second, second)
        self.block3 = BasicBlock(third, third)
        self.reduce1 = nn.Conv2d(first, second, kernel_size=1)
        self.reduce2 = nn.Conv2d(second, third, kernel_size=1)
        self.reduce3 = nn.Conv2d(third, last, kernel_size=1)
        self.to_gate1 = nn.Conv2d(tap_channels.gate1, 1, kernel_size=1)
        self.to_gate2 = nn.Conv2d(tap_channels.gate2, 1, kernel_size=1)
        self.to_gate3 = nn.Conv2d(tap_channels.top, 1, kernel_size=1)
        self.gated_conv1 = GatedConv(second, second)
        self.gated_conv2 = GatedConv(third, third)
        self.gated_conv3 = GatedConv(last, last)
        self.to_edge = nn.Conv2d(last, 1, kernel_size=1, bias=False)
        self.to_feature = nn.Conv2d(2, 1, kernel_size=1, bias=False)

    def forward(self, taps: Taps[Tensor], gradient: Float[Tensor, "B 1 H W"]) -> ShapeStreamOutput:
        size = gradient.shape[-2:]
        x = resize(self.entry(taps.stem), size)
        x = self.gated_conv1(self.reduce1(self.block1(x)), resize(self.to_gate1(taps.gate1), size))
        x = self.gated_conv2(self.reduce2(self.block2(x)), resize(self.to_gate2(taps.gate2), size))
        x = self.gated_conv3(self.reduce3(self.block3(x)), resize(self.to_gate3(taps.top), size))
        edge_logits = self.to_edge(x)
        prior = gradient.to(edge_logits.dtype)
        feature = torch.sigmoid(self.to_feature(torch.cat((torch.sigmoid(edge_logits), prior), dim=1)))
        return ShapeStreamOutput(edge_logits, feature)
