"""The configs of the model, the losses, the edges and inference: only pydantic, readable without torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gscnn.architectures import ARCHITECTURES
from gscnn.backbones import network_of

T = TypeVar("T")


@dataclass(frozen=True)
class ExecutionMark:
    """Marks a field that changes how a run is executed, not what it computes."""


Execution = Annotated[T, ExecutionMark()]
"""`num_workers: Execution[int]`: a run may resume under another value, and no sweep searches it."""

if TYPE_CHECKING:
    # Type checkers do not accept a Literal with computed names.
    ArchitectureName = str
else:
    ArchitectureName = Literal[tuple(ARCHITECTURES)]

Init = Literal["torch", "kaiming"]
OutputStride = Literal[8, 16, 32]
ShapeStride = Literal[1, 2, 4]

ClassWeighting = Literal["image", "inverse_log", "median_frequency", "effective_number"]
"""What pixels of the cross-entropy may weigh by name; all but "image" need the dataset's pixels of each class."""

GradientMethod = Literal["canny", "sobel", "released"]
"""Edge priors that gscnn.edges.image_gradient computes; "released" exists for the authors' weights alone."""


def _takes_numbers(annotation: Any) -> bool:
    """Whether the annotation, or one of its union's, is a tuple of numbers."""
    if get_origin(annotation) is tuple:
        return all(kind in (int, float, ...) for kind in get_args(annotation))
    return any(map(_takes_numbers, get_args(annotation)))


class Config(BaseModel):
    """Base of all configs: immutable, and unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _numbers(cls, given: Any) -> Any:
        """Reads the text of several numbers, `128 160` or `128,160`: a value of a search space is a single word."""
        if not isinstance(given, Mapping):
            return given
        split = {
            name: numbers
            for name, value in given.items()
            if isinstance(value, str) and name in cls.model_fields
            if _takes_numbers(cls.model_fields[name].annotation)
            if len(numbers := value.replace(",", " ").split()) > 1
        }
        return {**given, **split}


class ModelConfig(Config):
    """The config of a model."""

    architecture: ArchitectureName = "gscnn"
    """A name of gscnn.architectures.ARCHITECTURES: Gated-SCNN, or its control without a shape stream."""
    backbone: str = "resnet50"
    """A name of gscnn.backbones.BACKBONES, or `timm/NAME`: a model of timm with `features_only`, of any image size."""
    num_classes: int = Field(default=19, ge=2, le=255)
    """Classes without void; 19 on Cityscapes."""
    output_stride: OutputStride = 8
    """Input size divided by the size of the backbone's top; 8 in the paper. 32 is for models of timm that offer no
    other, such as Swin."""
    weights: str | None = None
    """Pretrained weights that the backbone offers: torchvision's "IMAGENET1K_V1" or "IMAGENET1K_V2" (ResNets), or
    "imagenet" for the newest of them or the default ones of a timm model; None: random weights."""
    init: Init = "torch"
    """Initialization of the convolutions in the shape stream, fusion and head: PyTorch's default (He et al.'s uniform
    with slope sqrt 5, random biases), or Kaiming normal by fan-in with biases of 0 (released code). The default
    had the higher boundary F on CamVid, by 0.024 at 3 px, at equal mIoU (benchmarks/results/settings-2026-11-26.md)."""
    aspp_rates: tuple[int, int, int] | None = None
    """Dilations of the ASPP; None means 12, 24, 36 at output stride 8 and 6, 12, 18 at 16 (the paper), and by the same
    rule, the same pixels of the image, 3, 6, 9 at 32."""
    aspp_channels: int = Field(default=256, ge=1)
    """Width of each ASPP branch and of the head."""
    low_level_channels: int = Field(default=48, ge=1)
    """Channels to which the head reduces the low-level tap; 48 in DeepLabV3+ (arXiv:1802.02611, table 1)."""
    frozen_stages: int = Field(default=0, ge=0)
    """Number of backbone stages to freeze, counted from the input: a ResNet has stem, layer1, layer2, layer3, layer4,
    a model of timm a stage for each tap: stem, low_level, gate1, gate2, top. Frozen stages stay in evaluation mode. For
    pretrained weights."""
    freeze_batch_norm: bool = False
    """Freeze running statistics, scale and shift of all batch norms in the backbone, like
    torchvision.ops.FrozenBatchNorm2d and DeepLabv3's last training phase (arXiv:1706.05587, section 4.1). For
    pretrained weights and few images per batch. Batch norms of the shape stream, fusion and head are trained."""
    shape_widths: tuple[int, int, int, int] = (64, 32, 16, 8)
    """Channels along the shape stream; the default is the paper's. They dominate the cost of a small model."""
    shape_stride: ShapeStride = 1
    """Image size divided by the size at which the shape stream works: 1 (paper), 2, as the stem of most backbones, or
    4. At 2 the stream costs a quarter; its edge logits are resized to the image. Weights fit at any of them (ours). An
    architecture without a shape stream reads neither this nor `shape_widths`."""
    activation_checkpointing: Execution[bool] = False
    """Trade compute for memory: keep only the input of each backbone block, and recompute the block in the backward
    pass, with the same gradients. In training at 720x720 in float32, the activations of an image shrink from 5.1 to 3.3
    GiB with wide_resnet38 (backbone alone: from 2.5 to 0.7), from 3.8 to 2.6 with resnet50 and from 5.4 to 3.1 with
    resnet101, plus up to 0.4 GiB per image while a block is recomputed. Models of timm do not offer it."""

    @field_validator("backbone")
    @classmethod
    def _known(cls, value: str) -> str:
        network_of(value)
        return value

    @model_validator(mode="after")
    def _offered(self) -> "ModelConfig":
        network = network_of(self.backbone)
        if self.output_stride not in network.output_strides:
            offered = " or ".join(map(str, network.output_strides))
            raise ValueError(f"`output_stride` is {self.output_stride}: {self.backbone} offers {offered}")
        if self.weights is not None and self.weights not in network.weights:
            offered = " or ".join([*network.weights, "None"])
            raise ValueError(f"`weights` is {self.weights}: {self.backbone} offers {offered}")
        if self.frozen_stages > len(network.stages):
            raise ValueError(
                f"`frozen_stages` is {self.frozen_stages}: {self.backbone} has {len(network.stages)} stages, "
                f"{', '.join(network.stages)}"
            )
        if self.activation_checkpointing and not network.checkpoints_activations:
            raise ValueError(f"`activation_checkpointing` is True: {self.backbone} does not offer it; use False")
        return self

    @property
    def known_when_built(self) -> bool:
        """Whether only building the model tells if it is there: its weights, or what a model of timm offers."""
        return self.weights is not None or network_of(self.backbone).known_when_built


class LossConfig(Config):
    """Weights and settings of the loss terms. A weight of 0 disables the term: it is not computed."""

    seg: float = Field(default=1.0, ge=0)
    """Weight of the cross-entropy (paper: 1)."""
    edge: float = Field(default=20.0, ge=0)
    """Weight of the boundary loss (paper: 20)."""
    attention: float = Field(default=1.0, ge=0)
    """Weight of the cross-entropy on predicted boundaries (paper: 1)."""
    attention_threshold: float = Field(default=0.8, ge=0, le=1)
    """Edge probability above which a pixel counts as predicted boundary (paper: 0.8)."""
    attention_start: float = Field(default=0.0, ge=0, lt=1)
    """Share of a training's steps after which `attention` counts; until then the term is only logged (paper: 0). The
    first predicted boundaries are noise; whether a later start helps is not settled (docs/results.md)."""
    dual: float = Field(default=0.0, ge=0)
    """Weight of the dual-task regularizer (paper: 1; seed: 0)."""
    dual_temperature: float = Field(default=1.0, gt=0)
    """Temperature of the dual-task regularizer's Gumbel softmax (paper: 1; released code: 0.5)."""
    dual_threshold: float = Field(default=0.2, ge=0, le=1)
    """Share of the steepest gradient above which the dual-task regularizer counts a pixel as boundary
    (gscnn.losses.dual)."""
    class_weights: str | tuple[float, ...] | None = None
    """Pixel weights of the cross-entropy, including the attention term. "image" (released code): 1 + (1 - share of the
    pixel's class among its image's non-void pixels), and the loss is the mean of the images' weighted means. Otherwise
    PyTorch's weighted mean, with a number for each class (`1,2,0.5`) or by the pixels of each class in the training
    split (gscnn.class_weights): "inverse_log" (arXiv:1606.02147), "median_frequency" (arXiv:1511.00561) or
    "effective_number" (arXiv:1901.05555). None: equal weights."""
    effective_number_beta: float = Field(default=0.99, ge=0, lt=1)
    """Beta of "effective_number": pixels are counted in images' worth, and a class has at most 1 / (1 - beta) of them.
    At 0 all classes weigh the same, near 1 as the inverse of their pixels (arXiv:1901.05555: 0.9 to 0.9999, for images;
    ours: 0.99, so that a class has at most 100 images' worth)."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of each pixel's target that is spread evenly over all classes, in both cross-entropies, with PyTorch's
    definition (arXiv:1512.00567: 0.1)."""
    ohem_threshold: float | None = Field(default=None, gt=0, le=1)
    """Online hard example mining: probability of the true class below which a pixel counts in `seg`, such as 0.7
    (after arXiv:1604.03540); None: every pixel counts."""
    ohem_share: float = Field(default=0.0625, ge=0, le=1)
    """Minimum share of a step's non-void pixels that count with `ohem_threshold`: if fewer are hard, those with the
    lowest probability (ours: one in 16)."""
    lovasz: float = Field(default=0.0, ge=0)
    """Weight of the Lovász-softmax loss, by image and over the classes in it (arXiv:1705.08790: 1)."""
    dice: float = Field(default=0.0, ge=0)
    """Weight of the soft Dice loss, by image and over the classes in it (V-Net, arXiv:1606.04797: 1)."""

    @classmethod
    def paper(cls) -> "LossConfig":
        """All four terms, weighted 1, 20, 1, 1, with the paper's thresholds and temperature (arXiv:1907.05740)."""
        return cls(seg=1, edge=20, attention=1, attention_threshold=0.8, dual=1, dual_temperature=1)

    @classmethod
    def seed(cls) -> "LossConfig":
        """Weights 1, 20, 1, 0: the paper's without the dual-task regularizer. This project started with them."""
        return cls(seg=1, edge=20, attention=1, attention_threshold=0.8, dual=0)

    @field_validator("class_weights", mode="before")
    @classmethod
    def _name_or_numbers(cls, value: Any) -> Any:
        names = get_args(ClassWeighting)
        if value is None or value in names:
            return value
        try:
            weights = tuple(map(float, [value] if isinstance(value, str) else value))
        except (TypeError, ValueError):
            raise ValueError(f"must be {', '.join(names)} or a number for each class, such as 1,2,0.5") from None
        if not (weights and all(0 < weight < math.inf for weight in weights)):
            raise ValueError("need finite numbers above 0, one for each class")
        return weights

    @model_validator(mode="after")
    def _something_to_learn(self) -> "LossConfig":
        if not (self.seg or self.edge or self.attention or self.dual or self.lovasz or self.dice):
            raise ValueError(
                "`seg`, `edge`, `attention`, `dual`, `lovasz` and `dice` are all 0: give at least one term a weight"
            )
        if self.attention_start and not (self.seg or self.edge or self.dual or self.lovasz or self.dice):
            raise ValueError(
                f"`attention_start` is {self.attention_start:g}, and `attention` is the only term: there is nothing to "
                "learn before it starts; give another term a weight"
            )
        return self


class InferenceConfig(Config):
    """The forward passes whose mean is the prediction; by default one pass over the whole image."""

    window: tuple[int, int] | None = None
    """Height and width in pixels of the sliding window, at every scale; ideally the size of the training crop. A side
    longer than the image's is cut to it; None: the whole image."""
    overlap: float = Field(default=1 / 3, ge=0, lt=1)
    """Minimum overlap of neighbouring windows, as a share of the window's side. Not used without a window."""
    scales: tuple[float, ...] = Field(default=(1.0,), min_length=1)
    """Scales to predict at, relative to the image's size; the random resize of training spans 0.5 to 2."""
    flip: bool = False
    """Whether to also predict every window flipped horizontally."""

    @field_validator("window")
    @classmethod
    def _has_pixels(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and min(value) < 1:
            raise ValueError("a side needs 1 pixel or more")
        return value

    @field_validator("scales")
    @classmethod
    def _positive_and_unlike(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < scale < math.inf for scale in value):
            raise ValueError("need finite numbers above 0")
        if len(set(value)) < len(value):
            raise ValueError("each scale only once: a repeated one would count twice")
        return value
