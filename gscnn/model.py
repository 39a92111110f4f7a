"""Gated-SCNN and its control, DeepLabV3+: the same backbone, ASPP and head without the shape stream."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gscnn.backbones import BACKBONES, Backbone, Taps
from gscnn.fusion import FeatureFusion
from gscnn.shape_stream import ShapeStream, resize


class SegmentationOutput(NamedTuple):
    seg_logits: Float[Tensor, "B K H W"]
    edge_logits: Float[Tensor, "B 1 H W"] | None
    """None from a model without shape stream."""


class ModelConfig(BaseModel):
    """What a model is built from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: Literal["gscnn", "deeplabv3plus"] = "gscnn"
    """Gated-SCNN, or its control without shape stream."""
    backbone: str = "resnet50"
    """A name of gscnn.backbones.BACKBONES."""
    num_classes: int = Field(default=19, ge=2, le=255)
    """Classes without void; 19 on Cityscapes."""
    output_stride: Literal[8, 16] = 8
    """Input size over the size of the backbone's top; 8 in the paper."""
    weights: Literal["imagenet"] | None = None
    """Start of the backbone: torchvision's ImageNet weights, or None for a random start."""
    aspp_rates: tuple[int, int, int] | None = None
    """Dilations of the ASPP; None means 12, 24, 36 at output stride 8 and 6, 12, 18 at 16 (the paper)."""
    aspp_channels: int = Field(default=256, ge=1)
    """Width of each ASPP branch and of the head."""
    low_level_channels: int = Field(default=48, ge=1)
    """Width to which the head reduces the low-level tap; 48 in DeepLabV3+ (arXiv:1802.02611, table 1)."""
    shape_widths: tuple[int, int, int, int] = (64, 32, 16, 8)
    """Channels along the shape stream; the paper's. Most of the cost of a small model is here."""
    activation_checkpointing: bool = False
    """Trades a second forward pass of the backbone for memory: of each of its blocks only the input is kept, and the
    backward pass runs the block again, for the same gradients. Of the activations kept in training at 720x720 in
    float32, 3.3 of 5.1 GiB an image stay with wide_resnet38 (its backbone alone: 0.7 of 2.5), 2.6 of 3.8 with resnet50
    and 3.1 of 5.4 with resnet101, plus up to 0.4 GiB an image while one block is repeated."""

    @field_validator("backbone")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in BACKBONES:
            raise ValueError(f"backbone {value!r} is unknown; there are: {', '.join(BACKBONES)}")
        return value


class _SegmentationModel(nn.Module):
    """Backbone, fusion and head; what both models share. Arguments: the fields of ModelConfig."""

    def __init__(self, config: ModelConfig, with_edge: bool) -> None:
        super().__init__()
        rates = config.aspp_rates or ((12, 24, 36) if config.output_stride == 8 else (6, 12, 18))
        self.regular_stream: Backbone = BACKBONES[config.backbone](config.output_stride, config.weights)
        self.regular_stream.activation_checkpointing = config.activation_checkpointing
        self.fusion = FeatureFusion(self.regular_stream.channels.top, rates, config.aspp_channels, with_edge)
        self.head = Head(
            self.regular_stream.channels.low_level, config.low_level_channels, config.aspp_channels, config.num_classes
        )


class GatedSCNN(_SegmentationModel):
    """Gated-SCNN (Takikawa et al., arXiv:1907.05740, figure 2). Arguments: the fields of ModelConfig."""

    def __init__(self, backbone: str = "resnet50", num_classes: int = 19, **fields: object) -> None:
        config = ModelConfig.model_validate({"backbone": backbone, "num_classes": num_classes, **fields})
        super().__init__(config, with_edge=True)
        self.shape_stream = ShapeStream(self.regular_stream.channels, config.shape_widths)

    def forward(self, image: Float[Tensor, "B 3 H W"], gradient: Float[Tensor, "B 1 H W"]) -> SegmentationOutput:
        """Logits at the image's size, which may be any.

        Raises:
            ValueError: the gradient is not [B, 1, H, W] of the image.
        """
        if gradient.shape != (image.shape[0], 1, *image.shape[-2:]):
            raise ValueError(f"gradient is {tuple(gradient.shape)}, image is {tuple(image.shape)}: need [B, 1, H, W]")
        taps = self.regular_stream(image)
        edge_logits, edge_feature = self.shape_stream(taps, gradient)
        return SegmentationOutput(self.head(self.fusion(taps.top, edge_feature), taps, image), edge_logits)


class DeepLabV3Plus(_SegmentationModel):
    """The control: DeepLabV3+ (arXiv:1802.02611) from the same parts. Arguments: the fields of ModelConfig."""

    def __init__(self, backbone: str = "resnet50", num_classes: int = 19, **fields: object) -> None:
        config = ModelConfig.model_validate({"backbone": backbone, "num_classes": num_classes, **fields})
        super().__init__(config, with_edge=False)

    def forward(
        self, image: Float[Tensor, "B 3 H W"], gradient: Float[Tensor, "B 1 H W"] | None = None
    ) -> SegmentationOutput:
        """Logits at the image's size; the gradient is accepted, so that both models are called alike, and not read."""
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


def build_model(config: ModelConfig) -> GatedSCNN | DeepLabV3Plus:
    """The model that `config` describes, on the CPU."""
    model = GatedSCNN if config.architecture == "gscnn" else DeepLabV3Plus
    return model(**config.model_dump(exclude={"architecture"}))
