"""RECIPES: name -> a complete ExperimentConfig. A variant copies one and changes fields."""

from typing import Final

from gscnn.config import LossConfig, ModelConfig
from gscnn_platform.config import (
    AugmentationConfig,
    DataConfig,
    ExperimentConfig,
    OptimizerConfig,
    TrainingConfig,
    with_overrides,
)
from gscnn_platform.invalid_values import did_you_mean, shown


def deeplab_control(recipe: ExperimentConfig) -> ExperimentConfig:
    """The same network without the shape stream, with cross-entropy only: the control for Gated-SCNN's gain."""
    return with_overrides(
        recipe,
        {
            "name": f"{recipe.name}-deeplab",
            "model.architecture": "deeplabv3plus",
            "loss.edge": 0.0,
            "loss.attention": 0.0,
            "loss.dual": 0.0,
        },
    )


STREETS = ExperimentConfig(
    name="streets",
    model=ModelConfig(
        backbone="resnet10_small",
        num_classes=9,
        output_stride=16,
        aspp_rates=(2, 4, 6),
        aspp_channels=32,
        low_level_channels=16,
        shape_widths=(16, 16, 8, 8),
    ),
    loss=LossConfig(edge=5, attention=8, attention_threshold=0.5, class_weights="image"),
    augmentation=AugmentationConfig(crop=(96, 128), scale=(0.9, 1.4), colour_jitter=0.15, blur=0.0),
    optimizer=OptimizerConfig(lr=0.05, lr_base_batch=4, nesterov=True, weight_decay=5e-4, poly_power=0.9),
    training=TrainingConfig(epochs=8, batch_size=4, ema_decay=0.98, validate_every=4, log_every=20),
)
"""Drawn scenes, minutes on 2 cores: the quickstart.

A small network on small crops: ASPP rates of 6 to 18 would reach beyond the 6 x 8 cells of its top, hence 2 to 6; the
shape stream is a quarter as wide as the paper's, because at full width it takes most of the time. Poles, wires and
persons are a few pixels wide, so the attention term, which counts only near predicted outlines, has 8 times the paper's
weight.
"""

CAMVID = ExperimentConfig(
    name="camvid",
    model=ModelConfig(backbone="resnet50", num_classes=11, weights="imagenet"),
    loss=LossConfig.seed(),
    augmentation=AugmentationConfig(crop=(360, 480)),
    optimizer=OptimizerConfig(lr=0.01, poly_power=0.9, weight_decay=5e-4),
    training=TrainingConfig(epochs=120, batch_size=16, precision="bf16"),
    data=DataConfig(loader_processes=4, eval_batch_size=4),
)
"""CamVid, 367 frames of 480x360, on GPUs, without the dual-task regularizer."""

CAMVID_TINY = ExperimentConfig(
    name="camvid-tiny",
    model=ModelConfig(
        backbone="resnet18",
        num_classes=11,
        output_stride=16,
        aspp_rates=(2, 4, 6),
        aspp_channels=64,
        low_level_channels=32,
        shape_widths=(16, 16, 8, 8),
    ),
    loss=LossConfig(edge=5),
    augmentation=AugmentationConfig(crop=(128, 160), scale=(0.4, 0.8), colour_jitter=0.15, blur=0.0),
    optimizer=STREETS.optimizer.model_copy(update={"lr_base_batch": 8}),
    training=TrainingConfig(epochs=12, batch_size=8, ema_decay=0.98, validate_every=3, log_every=23),
)
"""`camvid` within 15 minutes on 2 cores: a ResNet-18, on small crops at half the size."""

CAMVID_CPU = ExperimentConfig(
    name="camvid-cpu",
    model=CAMVID_TINY.model.model_copy(update={"backbone": "timm/tf_efficientnet_lite0", "shape_stride": 2}),
    loss=LossConfig(edge=5, attention=1, attention_start=0.1, class_weights="inverse_log"),
    augmentation=CAMVID_TINY.augmentation.model_copy(update={"crop": (160, 224), "scale": (0.5, 1.25)}),
    optimizer=OptimizerConfig(name="adamw", lr=0.001, lr_base_batch=8, weight_decay=0.01, poly_power=0.9),
    training=TrainingConfig(epochs=100, batch_size=8, ema_decay=0.99, validate_every=10, log_every=23),
)
"""`camvid` within an hour on 2 cores: an EfficientNet-Lite0, for ImageNet weights by `--init.weights`.

docs/results.md has its scores, those of its control, and the sweeps that chose its settings.
"""

CITYSCAPES = ExperimentConfig(
    name="cityscapes",
    model=ModelConfig(backbone="resnet50", num_classes=19, weights="imagenet"),
    loss=LossConfig.paper(),
    training=TrainingConfig(epochs=175, batch_size=16, precision="bf16", sync_bn=True, validate_every=5),
    data=DataConfig(loader_processes=8),
)
"""Our practical setting: the paper's four loss terms on a ResNet-50 with ImageNet weights, in bf16.

Crop, scale, flip, epochs, learning rate and weight decay are from the released code, 16 images per step from the paper.
Blur in half of the crops, a fifth of the released code's hue jitter, plain cross-entropy and a learning rate decaying
at each step are ours: `cityscapes-paper` has the released code's.
"""

CITYSCAPES_PAPER = ExperimentConfig(
    name="cityscapes-paper",
    model=ModelConfig(
        backbone="wide_resnet38",  # Paper and released code.
        num_classes=19,  # Both.
        output_stride=8,  # Both.
        weights=None,  # Both start from ImageNet weights, in a file of the authors' that is not torchvision's.
        aspp_rates=(12, 24, 36),  # Both.
        init="kaiming",  # Released code.
    ),
    loss=LossConfig(
        seg=1,  # Both, as the next three weights.
        edge=20,
        attention=1,
        dual=1,
        attention_threshold=0.8,  # Both.
        dual_temperature=1,  # Paper; released code: 0.5.
        class_weights="image",  # Released code; paper: plain cross-entropy.
    ),
    augmentation=AugmentationConfig(
        crop=(720, 720),  # Released code; paper: 800 x 800.
        scale=(0.5, 2.0),  # Both.
        interpolation="bicubic",  # Released code, as all that follows here.
        flip=0.5,
        colour_jitter=0.25,
        hue_jitter=0.25,
        blur=1.0,
        blur_sigma=(0.15, 1.30),
        gradient="derived",
    ),
    optimizer=OptimizerConfig(
        lr=0.01,  # Both.
        lr_base_batch=8,
        momentum=0.9,  # Both.
        nesterov=False,  # Released code.
        weight_decay=1e-4,  # Both, on every parameter.
        poly_power=1.0,  # Released code, as the next.
        poly_every="epoch",
    ),
    training=TrainingConfig(
        epochs=175,  # Released code; paper: 100 for ablations, 230 for its best validation score, 175 for the test set.
        batch_size=8,  # Released code: 1 per GPU on 8 GPUs; paper: 16.
        precision="float32",
        sync_bn=True,  # Released code.
        validate_every=5,  # Ours; both validate each epoch.
    ),
    data=DataConfig(loader_processes=8),
)
"""The released code's training recipe, field by field, without its defects: `--num-workers 8` gives each GPU one image.

Not reproduced: the second sigmoid in the edge loss, the dual term without spatial gradients, Canny on the normalized
image, and the edges that void and the frame make (`data.edges.void_edges`).
"""

RECIPES: Final[dict[str, ExperimentConfig]] = {
    recipe.name: recipe
    for base in (STREETS, CAMVID, CAMVID_TINY, CAMVID_CPU, CITYSCAPES, CITYSCAPES_PAPER)
    for recipe in (base, deeplab_control(base))
}


def recipe_named(name: str) -> ExperimentConfig:
    """A recipe by its name. Raises ValueError, which lists the recipes and the similar names."""
    if name not in RECIPES:
        there = f"there is no recipe {shown(name)}; there are: {', '.join(RECIPES)}"
        raise ValueError("\n".join(filter(None, [there, did_you_mean(name, RECIPES)])))
    return RECIPES[name]


def describe(recipe: ExperimentConfig) -> str:
    """`gscnn on resnet18, 9 classes, 8 epochs of 4 images per step`, for a list of recipes."""
    model, training = recipe.model, recipe.training
    return (
        f"{model.architecture} on {model.backbone}, {model.num_classes} classes, {training.epochs} epochs "
        f"of {training.batch_size} images per step"
    )
