"""torchvision's ResNet and Wide ResNet-2 as the regular stream.

Taps at output stride 8 (16):

    stem       [B,   64, H/2, W/2]
    low_level  [B,  256, H/4, W/4]               layer1        resnet18:  64
    gate1      [B,  512, H/8, W/8]               layer2                  128
    gate2      [B, 1024, H/8, W/8]  (H/16, W/16) layer3                  256
    top        [B, 2048, H/8, W/8]  (H/16, W/16) layer4                  512
"""

from typing import cast
from urllib.error import URLError

import torchvision
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import ResNet, WeightsEnum
from torchvision.models.resnet import Bottleneck

from gscnn.backbones.taps import Backbone, Taps


class WeightsUnavailableError(ValueError):
    """Pretrained weights were requested but are not available."""


class ResNetBackbone(Backbone):
    """A torchvision ResNet without its classifier, dilated to the output stride.

    Args:
        name: a constructor of torchvision.models: resnet18, resnet50, resnet101, wide_resnet50_2, wide_resnet101_2.
        output_stride: 8 or 16; strides beyond it become dilations (Chen et al., arXiv:1706.05587).
        weights: None for random weights, or one of torchvision's for ImageNet: "IMAGENET1K_V1" or, except for resnet18,
            "IMAGENET1K_V2", which are from a longer training; "imagenet" is the newest.

    Raises:
        ValueError: another output stride, or other weights.
        WeightsUnavailableError: the weights are not in torch's cache and cannot be downloaded.
    """

    def __init__(self, name: str, output_stride: int, weights: str | None) -> None:
        super().__init__()
        if output_stride not in (8, 16):
            raise ValueError(f"output_stride is {output_stride}; a backbone offers 8 and 16")
        network = cast(ResNet, torchvision.models.get_model(name, weights=None))
        if weights is not None:
            network.load_state_dict(_pretrained_weights(name, weights))
        if output_stride == 8:
            _dilate(network.layer3, first=1, rest=2)
            _dilate(network.layer4, first=2, rest=4)
        else:
            _dilate(network.layer4, first=1, rest=2)
        self.stem = nn.Sequential(network.conv1, network.bn1, network.relu)
        self.maxpool = network.maxpool
        self.layer1, self.layer2 = network.layer1, network.layer2
        self.layer3, self.layer4 = network.layer3, network.layer4
        expansion = 4 if isinstance(network.layer1[0], Bottleneck) else 1
        self.channels = Taps(64, 64 * expansion, 128 * expansion, 256 * expansion, 512 * expansion)

    def foreign_names(self) -> dict[str, str]:
        """torchvision's names, which timm's ResNets have too."""
        return {name.replace("stem.0.", "conv1.").replace("stem.1.", "bn1."): name for name in self.state_dict()}

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Taps[Tensor]:
        stem = self.stem(image)
        low_level = self.run((self.maxpool, *self.layer1), stem)
        gate1 = self.run(self.layer2, low_level)
        gate2 = self.run(self.layer3, gate1)
        return Taps(stem, low_level, gate1, gate2, self.run(self.layer4, gate2))


def _dilate(layer: nn.Sequential, first: int, rest: int) -> None:
    """Replaces the layer's stride with dilation: `first` in its first 3x3 convolution, `rest` in the later ones.

    The same rule as torchvision's replace_stride_with_dilation, which rejects the basic blocks of resnet18.
    """
    convolutions = [module for module in layer.modules() if isinstance(module, nn.Conv2d)]
    for convolution in convolutions:
        convolution.stride = (1, 1)
    for index, convolution in enumerate(c for c in convolutions if c.kernel_size == (3, 3)):
        dilation = first if index == 0 else rest
        convolution.dilation = convolution.padding = (dilation, dilation)


def _pretrained_weights(name: str, weights: str) -> dict[str, Tensor]:
    published = torchvision.models.get_model_weights(name).__members__
    chosen = cast(WeightsEnum | None, published.get("DEFAULT" if weights == "imagenet" else weights))
    if chosen is None:
        raise ValueError(f"weights is {weights!r}; {name} offers None, 'imagenet' and {', '.join(published)}")
    try:
        return cast(dict[str, Tensor], chosen.get_state_dict(progress=False, check_hash=True))
    except (URLError, OSError) as error:
        raise WeightsUnavailableError(
            f"no ImageNet weights for {name}: {chosen.url} could not be downloaded ({error}). "
            "Without a network, put that file into torch's cache, $TORCH_HOME/hub/checkpoints "
            "(~/.cache/torch/hub/checkpoints by default), or use random weights with `--model.weights None`"
        ) from error
