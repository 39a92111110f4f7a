"""Gated-SCNN and its control, DeepLabV3+: the same backbone, ASPP and head without the shape stream."""

import inspect
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gscnn.architectures import ARCHITECTURES
from gscnn.backbones import network_of
from gscnn.backbones.taps import Backbone, Taps
from gscnn.batch import SegmentationOutput
from gscnn.config import Init, ModelConfig, OutputStride, ShapeStride
from gscnn.fusion import FeatureFusion
from gscnn.resize import resize
from gscnn.shape_stream import ShapeStream


class SegmentationModel(nn.Module, ABC):
    """The base class of every entry of ARCHITECTURES: what losses, inference and export call."""

    @abstractmethod
    def forward(self, image: Float[Tensor, "B 3 H W"], gradient: Float[Tensor, "B 1 H W"]) -> SegmentationOutput:
        """Logits at the image's size; images may have any size."""

    def synchronize_batch_norms(self) -> None:
        """Replaces every batch norm by SyncBatchNorm, whose statistics are those of all workers."""
        nn.SyncBatchNorm.convert_sync_batchnorm(self)


class _DilatedModel(SegmentationModel):
    """Backbone, ASPP and head, which Gated-SCNN and its control share."""

    def __init__(self, config: ModelConfig, with_edge: bool) -> None:
        super().__init__()
        first = 96 // config.output_stride
        rates = config.aspp_rates or (first, 2 * first, 3 * first)
        network = network_of(config.backbone)
        self.regular_stream: Backbone = network(config.output_stride, config.weights)
        self.regular_stream.activation_checkpointing = config.activation_checkpointing
        self.regular_stream.freeze(network.stages[: config.frozen_stages], config.freeze_batch_norm)
        self.fusion = FeatureFusion(self.regular_stream.channels.top, rates, config.aspp_channels, with_edge)
        self.head = Head(
            self.regular_stream.channels.low_level, config.low_level_channels, config.aspp_channels, config.num_classes
        )
        if config.init == "kaiming":
            initialize_kaiming(self.fusion, self.head)

    def synchronize_batch_norms(self) -> None:
        self.regular_stream.convert_sync_batchnorm(self)


def initialize_kaiming(*parts: nn.Module) -> None:
    """Reinitializes the parts' convolutions from Kaiming's normal distribution by fan-in, with biases of 0.

    Source: He et al., arXiv:1502.01852, for ReLU, as the released code initializes all but its backbone.
    """
    for part in parts:
        for module in part.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


class GatedSCNN(_DilatedModel):
    """Gated-SCNN (Takikawa et al., arXiv:1907.05740, figure 2). The arguments are fields of ModelConfig.

    Raises:
        ValueError: a value that ModelConfig refuses.
        WeightsUnavailableError: the weights are neither in a cache nor can they be downloaded.
    """

    def __init__(
        self,
        backbone: str = "resnet50",
        num_classes: int = 19,
        *,
        output_stride: OutputStride = 8,
        weights: str | None = None,
        init: Init = "torch",
        aspp_rates: tuple[int, int, int] | None = None,
        aspp_channels: int = 256,
        low_level_channels: int = 48,
        shape_widths: tuple[int, int, int, int] = (64, 32, 16, 8),
        shape_stride: ShapeStride = 1,
        frozen_stages: int = 0,
        freeze_batch_norm: bool = False,
        activation_checkpointing: bool = False,
    ) -> None:
        config = ModelConfig(
            architecture="gscnn",
            backbone=backbone,
            num_classes=num_classes,
            output_stride=output_stride,
            weights=weights,
            init=init,
            aspp_rates=aspp_rates,
            aspp_channels=aspp_channels,
            low_level_channels=low_level_channels,
            shape_widths=shape_widths,
            shape_stride=shape_stride,
            frozen_stages=frozen_stages,
            freeze_batch_norm=freeze_batch_norm,
            activation_checkpointing=activation_checkpointing,
        )
        super().__init__(config, with_edge=True)
        self.shape_stream = ShapeStream(self.regular_stream.channels, config.shape_widths, config.shape_stride)
        if config.init == "kaiming":
            initialize_kaiming(self.shape_stream)

    def forward(self, image: Float[Tensor, "B 3 H W"], gradient: Float[Tensor, "B 1 H W"]) -> SegmentationOutput:
        """Logits at the image's size; images may have any size.

        Raises:
            ValueError: the gradient is not [B, 1, H, W] with the image's B, H and W.
        """
        if gradient.shape != (image.shape[0], 1, *image.shape[-2:]):
            raise ValueError(f"gradient is {tuple(gradient.shape)}, image is {tuple(image.shape)}: need [B, 1, H, W]")
        taps = self.regular_stream(image)
        edge_logits, edge_feature = self.shape_stream(taps, gradient)
        return SegmentationOutput(self.head(self.fusion(taps.top, edge_feature), taps, image), edge_logits)


class DeepLabV3Plus(_DilatedModel):
    """The control: DeepLabV3+ (arXiv:1802.02611) from the same parts. The arguments are fields of ModelConfig.

    Raises:
        ValueError: a value that ModelConfig refuses.
        WeightsUnavailableError: the weights are neither in a cache nor can they be downloaded.
    """

    def __init__(
        self,
        backbone: str = "resnet50",
        num_classes: int = 19,
        *,
        output_stride: OutputStride = 8,
        weights: str | None = None,
        init: Init = "torch",
        aspp_rates: tuple[int, int, int] | None = None,
        aspp_channels: int = 256,
        low_level_channels: int = 48,
        frozen_stages: int = 0,
        freeze_batch_norm: bool = False,
        activation_checkpointing: bool = False,
    ) -> None:
        config = ModelConfig(
            architecture="deeplabv3plus",
            backbone=backbone,
            num_classes=num_classes,
            output_stride=output_stride,
            weights=weights,
            init=init,
            aspp_rates=aspp_rates,
            aspp_channels=aspp_channels,
            low_level_channels=low_level_channels,
            frozen_stages=frozen_stages,
            freeze_batch_norm=freeze_batch_norm,
            activation_checkpointing=activation_checkpointing,
        )
        super().__init__(config, with_edge=False)

    def forward(
        self, image: Float[Tensor, "B 3 H W"], gradient: Float[Tensor, "B 1 H W"] | None = None
    ) -> SegmentationOutput:
        """Logits at the image's size. The gradient is ignored; it is accepted so that all models are called alike."""
        taps = self.regular_stream(image)
        return SegmentationOutput(self.head(self.fusion(taps.top, None), taps, image), None)


class Head(nn.Module):
    """DeepLabV3+'s decoder: low-level tap and fused feature, two 3x3 convolutions, logits at the image's size."""

    def __init__(self, low_level_in: int, low_level_out: int, channels: int, num_classes: int) -> None:
        super().__init__()
        self.low_level = nn.Conv2d(low_level_in, low_level_out, kernel_size=1, bias=False)
        self.classifier = nn.Sequential(
            nn.Conv2d(low_level_out + channels, channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, num_classes, kernel_size=1, bias=False),
        )

    def forward(
        self, fused: Float[Tensor, "B D h w"], taps: Taps[Tensor], image: Float[Tensor, "B 3 H W"]
    ) -> Float[Tensor, "B K H W"]:
        low_level = self.low_level(taps.low_level)
        logits = self.classifier(torch.cat((low_level, resize(fused, low_level.shape[-2:])), dim=1))
        return interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=False)


def build_model(config: ModelConfig) -> SegmentationModel:
    """The model that `config` describes, on the CPU; its class gets the fields that its constructor lists."""
    network = ARCHITECTURES[config.architecture].network()
    return network(**config.model_dump(include=set(inspect.signature(network).parameters)))
