"""The authors' released network, written anew from its description: its names, its order of channels, its forward pass.

An independent check of gscnn: nothing here is shared with it. Evaluation mode only.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, max_pool2d, relu

BLOCKS = {
    2: (3, (128, 128)),
    3: (3, (256, 256)),
    4: (6, (512, 512)),
    5: (3, (512, 1024)),
    6: (1, (512, 1024, 2048)),
    7: (1, (1024, 2048, 4096)),
}
"""Module -> blocks, channels of a block's convolutions."""

DILATIONS = {2: 1, 3: 1, 4: 1, 5: 2, 6: 4, 7: 4}


def named(*layers: tuple[str, nn.Module]) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


def norm_relu(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())


def conv(ins: int, outs: int, kernel: int, stride: int = 1, dilation: int = 1, bias: bool = False) -> nn.Conv2d:
    padding = dilation if kernel == 3 else 0
    return nn.Conv2d(ins, outs, kernel, stride=stride, padding=padding, dilation=dilation, bias=bias)


def conv_norm_relu(ins: int, outs: int, kernel: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(conv(ins, outs, kernel, dilation=dilation), *norm_relu(outs))


def resize(x: Tensor, like: Tensor) -> Tensor:
    return interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)


class WideBlock(nn.Module):
    def __init__(self, ins: int, widths: tuple[int, ...], stride: int, dilation: int) -> None:
        super().__init__()
        self.bn1 = norm_relu(ins)
        if len(widths) == 2:
            self.convs = named(
                ("conv1", conv(ins, widths[0], 3, stride, dilation)),
                ("bn2", norm_relu(widths[0])),
                ("conv2", conv(widths[0], widths[1], 3, 1, dilation)),
            )
        else:
            self.convs = named(
                ("conv1", conv(ins, widths[0], 1, stride)),
                ("bn2", norm_relu(widths[0])),
                ("conv2", conv(widths[0], widths[1], 3, 1, dilation)),
                ("bn3", norm_relu(widths[1])),
                ("conv3", conv(widths[1], widths[2], 1)),
            )
        self.projects = stride != 1 or ins != widths[-1]
        if self.projects:
            self.proj_conv = conv(ins, widths[-1], 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        first = self.bn1(x)
        return self.convs(first) + (self.proj_conv(first) if self.projects else x)


class ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(channels, channels, 3), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = conv(channels, channels, 3), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.bn2(self.conv2(relu(self.bn1(self.conv1(x))))) + x)


class Gate(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, channels, 1, 1))
        self._gate_conv = nn.Sequential(
            nn.BatchNorm2d(channels + 1),
            conv(channels + 1, channels + 1, 1, bias=True),
            nn.ReLU(),
            conv(channels + 1, 1, 1, bias=True),
            nn.BatchNorm2d(1),
            nn.Sigmoid(),
        )

    def forward(self, feature: Tensor, gating: Tensor) -> Tensor:
        alpha = self._gate_conv(torch.cat([feature, gating], 1))
        return conv2d(feature * alpha + feature, self.weight)


class Pyramid(nn.Module):
    """Concatenates: pooled image, edge, 1x1, rate 12, rate 24, rate 36."""

    def __init__(self, ins: int, outs: int) -> None:
        super().__init__()
        dilated = [conv_norm_relu(ins, outs, 3, rate) for rate in (12, 24, 36)]
        self.features = nn.ModuleList([conv_norm_relu(ins, outs), *dilated])
        self.img_conv = conv_norm_relu(ins, outs)
        self.edge_conv = conv_norm_relu(1, outs)

    def forward(self, x: Tensor, edge: Tensor) -> Tensor:
        pooled = self.img_conv(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        return torch.cat([pooled, self.edge_conv(resize(edge, x)), *(feature(x) for feature in self.features)], 1)


class ReleasedNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mod1 = named(("conv1", conv(3, 64, 3)))
        ins = 64
        for module, (count, widths) in BLOCKS.items():
            blocks = []
            for block in range(1, count + 1):
                stride = 2 if (module, block) == (4, 1) else 1
                blocks.append((f"block{block}", WideBlock(ins, widths, stride, DILATIONS[module])))
                ins = widths[-1]
            self.add_module(f"mod{module}", named(*blocks))
        self.dsn1, self.dsn3 = conv(64, 1, 1, bias=True), conv(256, 1, 1, bias=True)
        self.dsn4, self.dsn7 = conv(512, 1, 1, bias=True), conv(4096, 1, 1, bias=True)
        self.res1, self.d1, self.gate1 = ResidualBlock(64), conv(64, 32, 1, bias=True), Gate(32)
        self.res2, self.d2, self.gate2 = ResidualBlock(32), conv(32, 16, 1, bias=True), Gate(16)
        self.res3, self.d3, self.gate3 = ResidualBlock(16), conv(16, 8, 1, bias=True), Gate(8)
        self.fuse, self.cw = conv(8, 1, 1), conv(2, 1, 1)
        self.aspp = Pyramid(4096, 256)
        self.bot_fine, self.bot_aspp = conv(128, 48, 1), conv(6 * 256, 256, 1)
        head = (conv(256 + 48, 256, 3), *norm_relu(256), conv(256, 256, 3), *norm_relu(256), conv(256, 19, 1))
        self.final_seg = nn.Sequential(*head)

    def forward(self, image: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
        """Segmentation and edge logits; the prior is [B, 1, H, W]."""
        m1 = self.mod1(image)
        m2 = self.get_submodule("mod2")(max_pool2d(m1, 3, 2, 1))
        m3 = self.get_submodule("mod3")(max_pool2d(m2, 3, 2, 1))
        m4 = self.get_submodule("mod4")(m3)
        m7 = m4
        for module in (5, 6, 7):
            m7 = self.get_submodule(f"mod{module}")(m7)
        shape = self.gate1(self.d1(self.res1(m1)), resize(self.dsn3(m3), image))
        shape = self.gate2(self.d2(self.res2(shape)), resize(self.dsn4(m4), image))
        shape = self.gate3(self.d3(self.res3(shape)), resize(self.dsn7(m7), image))
        edge = self.fuse(shape)
        act = torch.sigmoid(self.cw(torch.cat([torch.sigmoid(edge), prior], 1)))
        fine = self.bot_fine(m2)
        coarse = resize(self.bot_aspp(self.aspp(m7, act)), fine)
        logits = self.final_seg(torch.cat([fine, coarse], 1))
        return interpolate(logits, size=image.shape[2:], mode="bilinear", align_corners=False), edge


def random_network(seed: int) -> ReleasedNetwork:
    """In evaluation mode, with random weights and batch norms far from the identity; 550 MB."""
    with torch.device("meta"):
        network = ReleasedNetwork()
    network = network.to_empty(device="cpu").eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            assert module.num_batches_tracked is not None
            module.running_mean.uniform_(-0.3, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            module.weight.uniform_(0.5, 1.5, generator=generator)
            module.bias.uniform_(-0.3, 0.3, generator=generator)
            module.num_batches_tracked.fill_(1000)
        for parameter in () if isinstance(module, nn.BatchNorm2d) else module.parameters(recurse=False):
            spread = (3 / max(1, parameter[0].numel())) ** 0.5
            parameter.uniform_(-spread, spread, generator=generator)
    return network
