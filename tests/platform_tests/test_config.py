from typing import Any

import pytest
from pydantic import ValidationError

from gscnn.config import LossConfig
from gscnn_platform.config import EXECUTION, ExperimentConfig, OptimizerConfig, flatten, with_overrides
from gscnn_platform.recipes import RECIPES, STREETS


def test_overrides_replace_dotted_keys_and_leave_the_rest() -> None:
    changed = with_overrides(STREETS, {"loss.edge": 3, "optimizer.lr": 0.5})
    assert (changed.loss.edge, changed.optimizer.lr) == (3.0, 0.5)
    unchanged = {"loss.edge": STREETS.loss.edge, "optimizer.lr": STREETS.optimizer.lr}
    assert with_overrides(changed, unchanged) == STREETS


@pytest.mark.parametrize("key", ["loss.egde", "los.edge", "loss.edge.more", "nothing"])
def test_an_unknown_key_is_refused_by_name(key: str) -> None:
    with pytest.raises(KeyError, match=key):
        with_overrides(STREETS, {key: 1})


def test_configs_cannot_be_changed_and_take_no_unknown_field() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        STREETS.seed = 3  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValidationError, match="Extra inputs"):
        ExperimentConfig.model_validate({"name": "x", "colour": "red"})


def test_a_config_without_any_term_is_refused() -> None:
    with pytest.raises(ValueError, match="`seg`, `edge`, `attention`, `dual`, `lovasz` and `dice` are all 0"):
        LossConfig(seg=0, edge=0, attention=0)


@pytest.mark.parametrize("weights", [(1, 2, 0.5), "1,2,0.5", "1 2 0.5"])
def test_class_weights_of_another_number_than_the_classes_are_refused(weights: object) -> None:
    message = (
        "`loss.class_weights` is 1,2,0.5, 3 numbers: must be 9, one for each of the classes of `model.num_classes`"
    )
    with pytest.raises(ValidationError, match=message):
        with_overrides(STREETS, {"loss.class_weights": weights})


def test_class_weights_are_a_known_name_or_finite_numbers_above_0() -> None:
    assert LossConfig.model_validate({"class_weights": "3, 2,0.5"}).class_weights == (3, 2, 0.5)
    assert LossConfig.model_validate_json(LossConfig(class_weights=(1, 2)).model_dump_json()).class_weights == (1, 2)
    for wrong in ("median", "1,x", "", 5, (1, "x"), True):
        with pytest.raises(
            ValidationError, match="median_frequency, effective_number or a number for each class, such as"
        ):
            LossConfig.model_validate({"class_weights": wrong})
    for wrong in ("1,0", "1,-1", "1,inf", "nan", (), (1, 0)):
        with pytest.raises(ValidationError, match="need finite numbers above 0, one for each class"):
            LossConfig.model_validate({"class_weights": wrong})


def test_fewer_workers_than_none_are_refused() -> None:
    with pytest.raises(ValidationError, match="`min_workers` is 3: must be at most `num_workers`, 2"):
        with_overrides(STREETS, {"num_workers": 2, "min_workers": 3})


def test_one_image_a_worker_is_refused_since_pooled_batch_norm_needs_two() -> None:
    with pytest.raises(ValidationError, match=r"`training\.batch_size` is 8: must be 16 or more"):
        with_overrides(STREETS, {"num_workers": 8, "training.batch_size": 8})


def test_a_control_with_edge_losses_is_refused() -> None:
    with pytest.raises(ValidationError, match="deeplabv3plus has no edge logits"):
        with_overrides(STREETS, {"model.architecture": "deeplabv3plus"})


RELEASED = {
    "model.backbone": "wide_resnet38",
    "model.num_classes": 19,
    "model.output_stride": 8,
    "model.init": "kaiming",
    "augmentation.crop": (720, 720),
    "augmentation.scale": (0.5, 2.0),
    "augmentation.interpolation": "bicubic",
    "augmentation.flip": 0.5,
    "augmentation.colour_jitter": 0.25,
    "augmentation.hue_jitter": 0.25,
    "augmentation.blur": 1.0,
    "augmentation.blur_sigma": (0.15, 1.30),
    "augmentation.gradient": "derived",
    "optimizer.lr": 0.01,
    "optimizer.momentum": 0.9,
    "optimizer.nesterov": False,
    "optimizer.weight_decay": 1e-4,
    "optimizer.poly_power": 1.0,
    "optimizer.poly_every": "epoch",
    "training.epochs": 175,
    "training.batch_size": 8,
    "training.sync_bn": True,
    "loss.class_weights": "image",
}
"""The authors' training script, of which `cityscapes-paper` has every setting."""

PAPER = {"seg": 1, "edge": 20, "attention": 1, "attention_threshold": 0.8, "dual": 1, "dual_temperature": 1}


def test_cityscapes_paper_is_the_released_training_recipe_with_the_papers_losses() -> None:
    recipe = RECIPES["cityscapes-paper"]
    settings = flatten(recipe.model_dump())
    assert {key: settings[key] for key in RELEASED} == RELEASED
    assert recipe.loss.model_dump(include=set(PAPER)) == PAPER
    eight_gpus = with_overrides(recipe, {"num_workers": 8})
    assert eight_gpus.images_per_batch == 1


def test_cityscapes_is_a_setting_of_our_own_with_the_papers_losses() -> None:
    recipe = RECIPES["cityscapes"]
    assert recipe.loss == LossConfig.paper()
    settings = flatten(recipe.model_dump())
    ours = {key for key, value in RELEASED.items() if settings[key] != value}
    assert {"model.backbone", "augmentation.hue_jitter", "augmentation.blur", "training.batch_size"} < ours


@pytest.mark.parametrize("name", list(RECIPES))
def test_scaling_leaves_a_recipe_at_its_own_batch_size_as_it_is(name: str) -> None:
    recipe = RECIPES[name]
    for scaling in ("linear", "sqrt"):
        scaled = with_overrides(recipe, {"optimizer.lr_scaling": scaling})
        assert scaled.optimizer.scaled_lr(recipe.training.batch_size) == recipe.optimizer.lr


def test_a_warm_up_as_long_as_the_training_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"`optimizer\.warmup_epochs` is 8: must be less than `training\.epochs`"):
        with_overrides(STREETS, {"optimizer.warmup_epochs": 8})


def test_the_learning_rate_is_described_with_what_made_it() -> None:
    assert OptimizerConfig().describe_lr(64) == "learning rate 0.01, schedule poly"
    scaled = OptimizerConfig(lr_scaling="linear", warmup_epochs=5, schedule="cosine", backbone_lr_factor=0.1)
    assert scaled.describe_lr(64) == (
        "learning rate 0.04 (0.01 for 16 images, linear), 0.1 times that for the backbone, schedule cosine, "
        "warm-up over epochs: 5"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"momentum": 0, "nesterov": True}, "`momentum` is 0: must be more than 0 with `nesterov`"),
        ({"schedule": "one_cycle", "warmup_epochs": 1}, "`warmup_epochs` is 1: must be 0 with `schedule` one_cycle"),
        ({"betas": (0.9, 1)}, "each must be 0 or more and less than 1"),
    ],
)
def test_optimizer_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        OptimizerConfig.model_validate(settings)
    assert OptimizerConfig(name="adamw", momentum=0, nesterov=True).name == "adamw"


def test_a_learning_rate_is_no_matter_of_execution() -> None:
    """A run does not resume under another one, and a sweep may search it."""
    assert not any(key.startswith("optimizer.") for key in EXECUTION)


def test_the_marks_on_the_fields_name_what_a_resumed_run_may_change() -> None:
    assert {
        "run_name",
        "store",
        "storage",
        "num_workers",
        "min_workers",
        "use_gpu",
        "cpus_per_worker",
        "wait_for_nodes",
        "resume",
        "model.activation_checkpointing",
        "data.loader_processes",
        "data.eval_batch_size",
        "data.cache.folder",
        "data.cache.gigabytes",
        "training.compile",
        "training.validate_at_start",
        "training.log_every",
        "training.pictures",
        "training.checkpoint_minutes",
        "training.checkpoint_steps",
        "training.max_failures",
        "training.collective_timeout_minutes",
        "tracking.uri",
        "tracking.experiment",
        "tracking.system_metrics",
        "tracking.on_deleted",
    } == EXECUTION
