import copy

import pytest
import torch
from torch import nn

from gscnn_platform.config import with_overrides
from gscnn_platform.recipes import RECIPES, STREETS
from gscnn_platform.training.optim import (
    build_optimizer,
    learning_rate,
    load_optimizer_state,
    parameter_groups,
    set_learning_rate,
)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 1, 1, bias=False))


def gradients(model: nn.Module, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(parameter.shape, generator=generator) for parameter in model.parameters()]


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.optimizer.poly_every == "step"])
def test_without_scaling_and_warm_up_the_learning_rate_is_the_polynomial_to_the_last_bit(name: str) -> None:
    recipe = RECIPES[name]
    total = 7 * recipe.training.epochs
    for step in range(total):
        expected = recipe.optimizer.lr * (1 - step / total) ** recipe.optimizer.poly_power
        assert learning_rate(recipe, step, steps_per_epoch=7) == expected


@pytest.mark.parametrize(("scaling", "lr"), [(None, 0.01), ("linear", 0.16), ("sqrt", 0.04)])
def test_the_learning_rate_scales_with_the_batch_as_configured(scaling: str | None, lr: float) -> None:
    grown = with_overrides(RECIPES["cityscapes"], {"optimizer.lr_scaling": scaling, "training.batch_size": 256})
    assert grown.optimizer.scaled_lr(256) == pytest.approx(lr)
    assert learning_rate(grown, 0, steps_per_epoch=12) == pytest.approx(lr)


def test_warmup_rises_linearly_and_then_follows_the_schedule() -> None:
    flat = with_overrides(STREETS, {"optimizer.lr": 1.0, "optimizer.poly_power": 0.0, "optimizer.warmup_epochs": 2.5})
    rates = [learning_rate(flat, step, steps_per_epoch=4) for step in range(12)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0, 1.0])
    warm, cold = (with_overrides(STREETS, {"optimizer.warmup_epochs": epochs}) for epochs in (2.5, 0))
    ratios = [learning_rate(warm, step, 4) / learning_rate(cold, step, 4) for step in range(12)]
    assert ratios == pytest.approx(rates)
    assert learning_rate(warm, 10, 4) == learning_rate(cold, 10, 4)


def test_the_papers_learning_rate_falls_at_the_end_of_each_epoch() -> None:
    recipe = RECIPES["cityscapes-paper"]
    assert learning_rate(recipe, 371, 372) == 0.01
    assert learning_rate(recipe, 372, 372) == learning_rate(recipe, 743, 372) == pytest.approx(0.01 * 174 / 175)


def test_every_parameter_is_in_one_group_with_weight_decay() -> None:
    model = network()
    listed = [parameter for group in parameter_groups(model, STREETS.optimizer) for parameter in group["params"]]
    assert len(listed) == 5
    assert {id(parameter) for parameter in listed} == {id(parameter) for parameter in model.parameters()}
    assert {group["weight_decay"] for group in parameter_groups(model, STREETS.optimizer)} == {5e-4}


@pytest.mark.parametrize("nesterov", [False, True])
def test_steps_follow_the_sgd_formula(nesterov: bool) -> None:
    """g + decay * w; v = momentum * v + g, from v = g at the first step; w -= lr * (g + momentum * v, or v)."""
    config = with_overrides(STREETS, {"optimizer.nesterov": nesterov, "optimizer.weight_decay": 0.25})
    model, momentum = network(), config.optimizer.momentum
    expected = [parameter.detach().clone().double() for parameter in model.parameters()]
    velocity: list[torch.Tensor | None] = [None] * len(expected)
    optimizer = build_optimizer(model, config)
    for step, lr in enumerate((0.5, 0.125)):
        set_learning_rate(optimizer, lr)
        for place, (parameter, gradient) in enumerate(zip(model.parameters(), gradients(model, step), strict=True)):
            parameter.grad = gradient
            decayed = gradient.double() + 0.25 * expected[place]
            before = velocity[place]
            now = decayed if before is None else momentum * before + decayed
            velocity[place] = now
            expected[place] = expected[place] - lr * (decayed + momentum * now if nesterov else now)
        optimizer.step()
    for parameter, value in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.detach().double(), value, rtol=1e-5, atol=1e-6)


def test_a_loaded_state_has_the_momentum_of_the_state_and_the_settings_of_the_config() -> None:
    model = network()
    before = build_optimizer(model, STREETS)
    for parameter, gradient in zip(model.parameters(), gradients(model, 0), strict=True):
        parameter.grad = gradient
    before.step()
    config = with_overrides(STREETS, {"optimizer.momentum": 0.5, "optimizer.weight_decay": 0.25})
    resumed = build_optimizer(model, config)
    load_optimizer_state(resumed, copy.deepcopy(before.state_dict()))
    [group] = resumed.param_groups
    assert (group["momentum"], group["weight_decay"]) == (0.5, 0.25)
    for parameter in model.parameters():
        assert torch.equal(resumed.state[parameter]["momentum_buffer"], before.state[parameter]["momentum_buffer"])
