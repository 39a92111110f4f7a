"""The optimizer: how it is built, its parameter groups, and the learning rate as a pure function of the step."""

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from gscnn_platform.config import ExperimentConfig, OptimizerConfig


def build_optimizer(model: nn.Module, config: ExperimentConfig) -> Optimizer:
    """SGD with momentum over `parameter_groups`; `set_learning_rate` sets the learning rate before each step."""
    optimizer = config.optimizer
    return torch.optim.SGD(
        parameter_groups(model, optimizer),
        lr=optimizer.scaled_lr(config.training.batch_size),
        momentum=optimizer.momentum,
        nesterov=optimizer.nesterov,
    )


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """One group of all parameters: the released code decays every one of them, biases and batch norms as well.

    A checkpoint stores the optimizer's state by group and place: other groups, or another order of their parameters,
    cannot resume from it.
    """
    return [{"params": list(model.parameters()), "weight_decay": config.weight_decay}]


def load_optimizer_state(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Momentum and the like from a state_dict; settings such as weight decay stay those of `optimizer`.

    The state has settings too. The config's apply, where a sweep has changed them since.
    """
    ours = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, settings in zip(optimizer.param_groups, ours, strict=True):
        group.update(settings)


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Sets the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def learning_rate(config: ExperimentConfig, step: int, steps_per_epoch: int) -> float:
    """Learning rate of the optimizer step that follows `step` others: the schedule, scaled down during warmup.

    A pure function of the step: a run that resumes needs no state of it.
    """
    optimizer, epochs = config.optimizer, config.training.epochs
    scheduled = step if optimizer.poly_every == "step" else step - step % steps_per_epoch
    lr = optimizer.scaled_lr(config.training.batch_size)
    lr *= polynomial(scheduled / (steps_per_epoch * epochs), optimizer.poly_power)
    return warmed_up(lr, step, optimizer.warmup_epochs * steps_per_epoch)


def polynomial(done: float, power: float) -> float:
    """Share of the first learning rate after the part `done` of the training, 0 to 1: from 1 to 0."""
    return (1 - done) ** power


def warmed_up(lr: float, step: int, steps: float) -> float:
    """`lr` after `steps` steps; before, a share of it that grows by the same part at each step (arXiv:1706.02677)."""
    return lr * (step + 1) / steps if step + 1 < steps else lr
