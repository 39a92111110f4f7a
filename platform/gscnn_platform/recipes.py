"""RECIPES: name -> a whole ExperimentConfig. A variant copies one and changes fields."""

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


def deeplab_control(recipe: ExperimentConfig) -> ExperimentConfig:
    """The same network without shape stream, on plain cross-entropy: what Gated-SCNN gains is measured against it."""
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
        backbone="resnet18",
        num_classes=9,
        output_stride=16,
        aspp_rates=(2, 4, 6),
        aspp_channels=64,
        low_level_channels=32,
        shape_widths=(16, 16, 8, 8),
    ),
    loss=LossConfig(edge=5),
    augmentation=AugmentationConfig(crop=(96, 128), scale=(0.75, 1.5), colour_jitter=0.15, blur=0.2),
    optimizer=OptimizerConfig(lr=0.05, lr_base_batch=4, nesterov=True, weight_decay=5e-4, poly_power=0.9),
    training=TrainingConfig(epochs=8, batch_size=4, ema_decay=0.98, validate_every=4, log_every=20),
)
"""Drawn scenes, minutes on 2 cores: the quickstart.

A small network on small crops: ASPP rates of 6 to 18 would look past the 6 x 8 cells of its top, hence 2 to 6; the
shape stream is a quarter as wide as the paper's, since at full width it takes most of the time.
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
"""CamVid, 367 frames of 480x360, on GPUs, without the dual-task regulariser."""

CAMVID_TINY = ExperimentConfig(
    name="camvid-tiny",
    model=STREETS.model.model_copy(update={"num_classes": 11}),
    loss=STREETS.loss,
    augmentation=AugmentationConfig(crop=(128, 160), scale=(0.4, 0.8), colour_jitter=0.15, blur=0.0),
    optimizer=STREETS.optimizer.model_copy(update={"lr_base_batch": 8}),
    training=TrainingConfig(epochs=12, batch_size=8, ema_decay=0.98, validate_every=3, log_every=23),
)
"""The path of `camvid` within 15 minutes on 2 cores: the network of `streets`, on small crops at half the size."""

CITYSCAPES = ExperimentConfig(
    name="cityscapes",
    model=ModelConfig(backbone="resnet50", num_classes=19, weights="imagenet"),
    loss=LossConfig.paper(),
    training=TrainingConfig(epochs=175, batch_size=16, precision="bf16", sync_bn=True, validate_every=5),
    data=DataConfig(loader_processes=8),
)
"""The paper's setting: all four loss terms, crops of 720x720, scale 0.5 to 2, 16 images a step, 175 epochs."""

RECIPES: Final[dict[str, ExperimentConfig]] = {
    recipe.name: recipe
    for base in (STREETS, CAMVID, CAMVID_TINY, CITYSCAPES)
    for recipe in (base, deeplab_control(base))
}


def describe(recipe: ExperimentConfig) -> str:
    """`gscnn on resnet18, 9 classes, 8 epochs of 4 images a step`, for a list of recipes."""
    model, training = recipe.model, recipe.training
    return (
        f"{model.architecture} on {model.backbone}, {model.num_classes} classes, {training.epochs} epochs "
        f"of {training.batch_size} images a step"
    )
