"""A ResNet-10 for small images on a CPU: half as wide and without max pooling, to preserve thin objects.

Taps at output stride 8 (16):

    stem       [B,  32, H/2, W/2]
    low_level  [B,  32, H/2, W/2]              layer1
    gate1      [B,  64, H/4, W/4]              layer2
    gate2      [B, 128, H/8, W/8]              layer3
    top        [B, 256, H/8, W/8] (H/16, W/16) layer4

Half the width at twice the resolution costs as much as a ResNet-10. A pole of two pixels is half a cell of the
decoder's map here, and a quarter of a cell in a ResNet, whose decoder works at H/4.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from gscnn.backbones.taps import Backbone, Taps

WIDTHS = (32, 64, 128, 256)


class SmallResNet(Backbone):
    """One basic block (He et al., arXiv:1512.03385) per stage.

    Args:
        output_stride: 8, by dilation of the last stage (Chen et al., arXiv:1706.05587), or 16.
        weights: None: random weights.

    Raises:
        ValueError: another output stride, or any weights.
    """

    def __init__(self, output_stride: int, weights: str | None) -> None:
        super().__init__()
        if output_stride not in (8, 16):
            raise ValueError(f"output_stride is {output_stride}; a backbone offers 8 and 16")
        if weights is not None:
            raise ValueError(f"weights is {weights!r}; resnet10_small offers None")
        first, second, third, last = WIDTHS
        self.channels = Taps(first, first, second, third, last)
        self.stem = nn.Sequential(
            nn.Conv2d(3, first, kernel_size=3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(inplace=True),
        )
        self.layer1 = BasicBlock(first, first)
        self.layer2 = _block(first, second, stride=2)
        self.layer3 = _block(second, third, stride=2)
        self.layer4 = _block(third, last, stride=2 if output_stride == 16 else 1)
        if output_stride == 8:
            self.layer4.conv2.dilation = self.layer4.conv2.padding = (2, 2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Taps[Tensor]:
        stem = self.stem(image)
        low_level = self.run((self.layer1,), stem)
        gate1 = self.run((self.layer2,), low_level)
        gate2 = self.run((self.layer3,), gate1)
        return Taps(stem, low_level, gate1, gate2, self.run((self.layer4,), gate2))


def _block(in_channels: int, out_channels: int, stride: int) -> BasicBlock:
    shortcut = nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
    )
    return BasicBlock(in_channels, out_channels, stride, shortcut)
