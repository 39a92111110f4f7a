"""WideResNet-38-A2 (Wu, Shen, van den Hengel, arXiv:1611.10080) as the regular stream: the paper's backbone.

Taps, at output stride 8:

    stem       [B,   64, H,   W  ]   module 1, a convolution
    low_level  [B,  128, H/2, W/2]   module 2
    gate1      [B,  256, H/4, W/4]   module 3
    gate2      [B,  512, H/8, W/8]   module 4
    top        [B, 4096, H/8, W/8]   module 7
"""

from typing import Final, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import relu

from gscnn.backbones.taps import Backbone, Taps
from gscnn.state_dicts import renamed


class Module(NamedTuple):
    """One of modules 2 to 7."""

    blocks: int
    widths: tuple[int, ...]
    """Output channels of each convolution in a block."""
    stride: int = 1
    """Stride of the first block; the others have 1."""
    dilation: int = 1
    dropout: float = 0.0
    """Share of the channels that are dropped before a block's last convolution."""


MODULES: Final = (
    Module(3, (128, 128)),
    Module(3, (256, 256)),
    Module(6, (512, 512), stride=2),
    Module(3, (512, 1024), dilation=2),
    Module(1, (512, 1024, 2048), dilation=4, dropout=0.3),
    Module(1, (1024, 2048, 4096), dilation=4, dropout=0.5),
)


class WideResNet38(Backbone):
    """WideResNet-38-A2 without its last batch norm and its classifier.

    Args:
        output_stride: 8; the dilations of modules 5 to 7 are chosen for it.
        weights: None: random weights (He et al., arXiv:1502.01852).

    Raises:
        ValueError: another output stride, or any weights.
    """

    def __init__(self, output_stride: int, weights: str | None) -> None:
        super().__init__()
        if output_stride != 8:
            raise ValueError(f"output_stride is {output_stride}; wide_resnet38 offers 8")
        if weights is not None:
            raise ValueError(
                f"weights is {weights!r}; wide_resnet38 offers None, because torchvision has no weights for it. Use "
                "random weights with `--model.weights None`, or the authors' file with `--init.weights FILE`"
            )
        self.channels = Taps(64, 128, 256, 512, 4096)
        self.stem = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        in_channels = (64, *(module.widths[-1] for module in MODULES[:-1]))
        self.module2, self.module3, self.module4, self.module5, self.module6, self.module7 = (
            _stack(channels, module) for channels, module in zip(in_channels, MODULES, strict=True)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def foreign_names(self) -> dict[str, str]:
        """The authors' names, of their ImageNet weights and of their released Gated-SCNN: mod1.conv1.weight."""
        starts = {"stem.": "mod1.conv1."}
        for number, module in enumerate(MODULES, start=2):
            for index in range(module.blocks):
                block, theirs = f"module{number}.{index}", f"mod{number}.block{index + 1}"
                starts[f"{block}.shortcut."] = f"{theirs}.proj_conv."
                starts[f"{block}.norms.0."] = f"{theirs}.bn1.0."
                for layer in range(len(module.widths)):
                    starts[f"{block}.convs.{layer}."] = f"{theirs}.convs.conv{layer + 1}."
                    starts.setdefault(f"{block}.norms.{layer}.", f"{theirs}.convs.bn{layer + 1}.0.")
        return {renamed(name, starts): name for name in self.state_dict()}

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Taps[Tensor]:
        stem = self.stem(image)
        low_level = self.run((self.pool, *self.module2), stem)
        gate1 = self.run((self.pool, *self.module3), low_level)
        gate2 = self.run(self.module4, gate1)
        top = self.run((*self.module5, *self.module6, *self.module7), gate2)
        return Taps(stem, low_level, gate1, gate2, top)


class PreActivationBlock(nn.Module):
    """Residual block whose batch norm and ReLU come first (He et al., arXiv:1603.05027).

    Two widths: two dilated 3x3 convolutions, the first with the stride. Three widths: 1x1 with the stride, dilated 3x3,
    1x1. Batch norm and ReLU precede each. If the stride or width changes, the shortcut is a 1x1 convolution of the
    activated input, otherwise the input itself.
    """

    def __init__(
        self, in_channels: int, widths: tuple[int, ...], stride: int = 1, dilation: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        assert len(widths) in (2, 3)
        kernels = (3, 3) if len(widths) == 2 else (1, 3, 1)
        ins = (in_channels, *widths[:-1])
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for channels in ins)
        self.convs = nn.ModuleList(
            nn.Conv2d(
                channels,
                width,
                kernel,
                stride=stride if index == 0 else 1,
                padding=dilation * (kernel // 2),
                dilation=dilation if kernel == 3 else 1,
                bias=False,
            )
            for index, (channels, width, kernel) in enumerate(zip(ins, widths, kernels, strict=True))
        )
        self.dropout = nn.Dropout2d(dropout) if dropout > 0 else nn.Identity()
        changes = stride != 1 or in_channels != widths[-1]
        self.shortcut = nn.Conv2d(in_channels, widths[-1], 1, stride=stride, bias=False) if changes else None

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        activated = relu(self.norms[0](x), inplace=True)
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        for conv, norm in zip(self.convs, self.norms[1:], strict=False):
            activated = relu(norm(conv(activated)), inplace=True)
        return shortcut + self.convs[-1](self.dropout(activated))


def _stack(in_channels: int, module: Module) -> nn.Sequential:
    first = PreActivationBlock(in_channels, module.widths, module.stride, module.dilation, module.dropout)
    channels = module.widths[-1]
    rest = [
        PreActivationBlock(channels, module.widths, dilation=module.dilation, dropout=module.dropout)
        for _ in range(module.blocks - 1)
    ]
    return nn.Sequential(first, *rest)
