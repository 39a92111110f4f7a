import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR, PolynomialLR

from gscnn.backbones import BACKBONES
from gscnn.config import ModelConfig
from gscnn.model import build_model
from gscnn_platform.config import ExperimentConfig, with_overrides
from gscnn_platform.recipes import RECIPES, STREETS
from gscnn_platform.training.optim import (
    build_optimizer,
    learning_rate,
    load_optimizer_state,
    optimizer_state,
    parameter_groups,
    set_learning_rate,
)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 1, 1, bias=False))


def gradients(model: nn.Module, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(parameter.shape, generator=generator) for parameter in model.parameters()]


def step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    for parameter, gradient in zip(model.parameters(), gradients(model, seed), strict=True):
        parameter.grad = gradient if parameter.requires_grad else None
    optimizer.step()


def segmentation_model(backbone: str = "resnet10_small", **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    return build_model(ModelConfig.model_validate({**STREETS.model.model_dump(), "backbone": backbone, **settings}))


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


TORCHS: dict[str, Callable[[torch.optim.Optimizer, int], LRScheduler]] = {
    "poly": lambda optimizer, steps: PolynomialLR(optimizer, total_iters=steps, power=0.9),
    "cosine": lambda optimizer, steps: CosineAnnealingLR(optimizer, T_max=steps),
    "one_cycle": lambda optimizer, steps: OneCycleLR(optimizer, max_lr=0.05, total_steps=steps, pct_start=0.3),
    "constant": lambda optimizer, steps: torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1),
}


@pytest.mark.parametrize("steps_per_epoch", [1, 2, 5, 31])
@pytest.mark.parametrize("schedule", TORCHS)
def test_each_schedule_equals_its_torch_scheduler_at_every_step(schedule: str, steps_per_epoch: int) -> None:
    config = with_overrides(STREETS, {"optimizer.schedule": schedule})
    total = steps_per_epoch * config.training.epochs
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.05)
    scheduler = TORCHS[schedule](optimizer, total)
    expected: list[float] = []
    for _ in range(total):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step() if len(expected) < total else None
    # From the last step to the first: no call depends on those before.
    rates = [learning_rate(config, number, steps_per_epoch) for number in reversed(range(total))][::-1]
    assert rates == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert min(rates) >= 0
    assert max(rates) <= 0.05


def test_one_cycle_rises_in_the_given_share_of_the_steps() -> None:
    config = with_overrides(STREETS, {"optimizer.schedule": "one_cycle", "optimizer.one_cycle_rise": 0.25})
    rates = [learning_rate(config, number, 5) for number in range(40)]
    assert rates[0] == pytest.approx(0.05 / 25)
    assert rates.index(max(rates)) == 9
    assert max(rates) == 0.05
    assert rates[-1] == pytest.approx(0.05 / 250_000)
    short = with_overrides(config, {"training.epochs": 1})
    rates = [learning_rate(short, number, 4) for number in range(4)]
    assert rates == pytest.approx([0.05, 0.0375, 0.0125, 0], abs=1e-6)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_warmup_scales_other_schedules_too(schedule: str) -> None:
    cold = with_overrides(STREETS, {"optimizer.schedule": schedule})
    warm = with_overrides(cold, {"optimizer.warmup_epochs": 2.0})
    ratios = [learning_rate(warm, number, 4) / learning_rate(cold, number, 4) for number in range(10)]
    assert ratios == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1, 1, 1])


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


def is_norm_or_bias(model: nn.Module, name: str) -> bool:
    owner, _, leaf = name.rpartition(".")
    return leaf == "bias" or isinstance(model.get_submodule(owner), nn.BatchNorm2d)


@pytest.mark.parametrize("factor", [1.0, 0.1])
@pytest.mark.parametrize("decayed", [True, False])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_each_parameter_has_the_weight_decay_and_learning_rate_of_its_kind(
    backbone: str, decayed: bool, factor: float
) -> None:
    changes = {"optimizer.decay_norms_and_biases": decayed, "optimizer.backbone_lr_factor": factor}
    config = with_overrides(STREETS, changes)
    with torch.device("meta"):
        model = segmentation_model(backbone, output_stride=8)
    optimizer = build_optimizer(model, config)
    rates = set_learning_rate(optimizer, 0.5)
    assert rates == ({"lr": 0.5} if factor == 1 else {"lr": 0.5, "lr_backbone": 0.05})
    assert len(optimizer.param_groups) == (1 if decayed else 2) * (1 if factor == 1 else 2)
    found = {
        parameter: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert len(found) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        lr = 0.5 * factor if name.startswith("regular_stream.") else 0.5
        assert found[parameter] == (lr, 5e-4 if decayed or not is_norm_or_bias(model, name) else 0), name


def test_adamw_takes_the_steps_of_the_written_formula() -> None:
    """w -= lr * (decay * w + m / (1 - b1**t) / (sqrt(v / (1 - b2**t)) + 1e-8)), in float64."""
    settings = {"optimizer.name": "adamw", "optimizer.betas": (0.8, 0.95), "optimizer.weight_decay": 0.25}
    config, model = with_overrides(STREETS, settings), network()
    optimizer = build_optimizer(model, config)
    weights = [parameter.detach().double() for parameter in model.parameters()]
    first, second = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
    for number, lr in enumerate((0.5, 0.125, 0.25), start=1):
        set_learning_rate(optimizer, lr)
        step(model, optimizer, number)
        for place, gradient in enumerate(each.double() for each in gradients(model, number)):
            first[place] = 0.8 * first[place] + 0.2 * gradient
            second[place] = 0.95 * second[place] + 0.05 * gradient**2
            scaled = first[place] / (1 - 0.8**number) / ((second[place] / (1 - 0.95**number)).sqrt() + 1e-8)
            weights[place] = weights[place] - lr * (0.25 * weights[place] + scaled)
    for parameter, weight in zip(model.parameters(), weights, strict=True):
        torch.testing.assert_close(parameter.detach().double(), weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_frozen_parameters_stay_bit_equal_and_have_no_optimizer_state(name: str) -> None:
    model = segmentation_model(frozen_stages=2)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    optimizer = build_optimizer(model, with_overrides(STREETS, {"optimizer.name": name}))
    for seed in range(3):
        step(model, optimizer, seed)
    still = {key for key, value in model.named_parameters() if torch.equal(value, before[key])}
    assert still == {key for key in before if key.startswith(("regular_stream.stem.", "regular_stream.layer1."))}
    assert set(optimizer.state) == {value for key, value in model.named_parameters() if key not in still}


def on_disk(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)


def resumed(model: nn.Module, config: ExperimentConfig, state: dict[str, Any]) -> torch.optim.Optimizer:
    optimizer = build_optimizer(model, config)
    load_optimizer_state(model, optimizer, config.optimizer, state)
    return optimizer


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_resumed_optimizer_takes_the_steps_of_an_uninterrupted_one(name: str) -> None:
    settings = {"optimizer.decay_norms_and_biases": False, "optimizer.backbone_lr_factor": 0.5, "optimizer.name": name}
    config, model = with_overrides(STREETS, settings), segmentation_model(frozen_stages=1)
    optimizer = build_optimizer(model, config)
    step(model, optimizer, 0)
    again = copy.deepcopy(model)
    other = resumed(again, config, on_disk(optimizer_state(model, optimizer, config.optimizer)))
    for each, of_each in ((model, optimizer), (again, other)):
        set_learning_rate(of_each, 0.25)
        step(each, of_each, 1)
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


def momenta(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {name: optimizer.state[parameter]["momentum_buffer"] for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("groups_before", [False, True])
@pytest.mark.parametrize("groups_after", [False, True])
def test_a_loaded_state_has_the_momentum_of_the_state_and_the_settings_of_the_config(
    groups_before: bool, groups_after: bool
) -> None:
    """PBT changes settings on the way, and with them the groups."""
    grouped = {"optimizer.decay_norms_and_biases": False, "optimizer.backbone_lr_factor": 0.5}
    model = segmentation_model()
    config = with_overrides(STREETS, grouped if groups_before else {})
    before = build_optimizer(model, config)
    step(model, before, 0)
    state = on_disk(optimizer_state(model, before, config.optimizer))
    changes = {"optimizer.momentum": 0.5, "optimizer.weight_decay": 0.25, **(grouped if groups_after else {})}
    after = resumed(model, with_overrides(STREETS, changes), state)
    assert {group["momentum"] for group in after.param_groups} == {0.5}
    assert {group["weight_decay"] for group in after.param_groups} == ({0.25, 0.0} if groups_after else {0.25})
    assert {group["lr_factor"] for group in after.param_groups} == ({0.5, 1.0} if groups_after else {1.0})
    expected = momenta(model, before)
    assert all(torch.equal(value, expected[name]) for name, value in momenta(model, after).items())


def test_the_state_of_an_older_checkpoint_is_loaded() -> None:
    """Older checkpoints have the state_dict of torch's SGD over all parameters in the order of the model."""
    model = segmentation_model()
    earlier = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    step(model, earlier, 0)
    expected = momenta(model, earlier)
    for changes in ({}, {"optimizer.decay_norms_and_biases": False}):
        after = resumed(model, with_overrides(STREETS, changes), on_disk(earlier.state_dict()))
        assert all(torch.equal(value, expected[name]) for name, value in momenta(model, after).items())


def test_the_state_of_another_optimizer_is_dropped() -> None:
    model = network()
    before = build_optimizer(model, STREETS)
    step(model, before, 0)
    adamw = with_overrides(STREETS, {"optimizer.name": "adamw"})
    after = resumed(model, adamw, optimizer_state(model, before, STREETS.optimizer))
    assert not after.state
    step(model, after, 1)
    assert {int(state["step"]) for state in after.state.values()} == {1}
