"""What every entry of RECIPES must do."""

import pytest

from gscnn_platform.config import EXECUTION, ExperimentConfig, flatten, with_overrides
from gscnn_platform.recipes import RECIPES, deeplab_control, describe
from gscnn_platform.training.optim import learning_rate

every_recipe = pytest.mark.parametrize("name", RECIPES)

SHIPPED = {
    "model.activation_checkpointing",
    "data.loader_processes",
    "data.eval_batch_size",
    "training.log_every",
    "training.pictures",
}
"""What a recipe may say of how it is carried out: what fits the size of its images and its data."""


@every_recipe
def test_it_has_its_own_name_and_a_description(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.name == name
    assert describe(recipe).startswith(f"{recipe.model.architecture} on {recipe.model.backbone}, ")


@every_recipe
def test_it_survives_json(name: str) -> None:
    recipe = RECIPES[name]
    assert ExperimentConfig.model_validate_json(recipe.model_dump_json()) == recipe
    assert with_overrides(recipe, {}) == recipe


@every_recipe
def test_it_says_what_is_computed_and_leaves_paths_and_machines_to_the_user(name: str) -> None:
    settings, defaults = (flatten(config.model_dump()) for config in (RECIPES[name], ExperimentConfig(name="x")))
    set_here = {key for key in EXECUTION if settings[key] != defaults[key]}
    assert set_here <= SHIPPED
    assert settings["data.fingerprint"] is None


@every_recipe
def test_its_learning_rate_is_positive_to_the_last_step(name: str) -> None:
    recipe, steps_per_epoch = RECIPES[name], 5
    rates = [learning_rate(recipe, step, steps_per_epoch) for step in range(steps_per_epoch * recipe.training.epochs)]
    assert min(rates) > 0
    assert max(rates) == recipe.optimizer.scaled_lr(recipe.training.batch_size)


@every_recipe
def test_it_runs_on_two_workers(name: str) -> None:
    assert with_overrides(RECIPES[name], {"num_workers": 2}).images_per_batch >= 1


@every_recipe
def test_it_has_a_control_without_shape_stream(name: str) -> None:
    recipe = RECIPES[name]
    if recipe.model.architecture != "gscnn":
        return
    control = RECIPES[f"{name}-deeplab"]
    assert control == deeplab_control(recipe)
    before, after = (flatten(config.model_dump()) for config in (recipe, control))
    losses = {f"loss.{term}" for term in ("edge", "attention", "dual") if before[f"loss.{term}"]}
    assert {key for key in before if before[key] != after[key]} == {"name", "model.architecture", *losses}
