"""Builds the optimizer with its parameter groups, and computes the learning rate as a pure function of the step."""

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from gscnn_platform.config import ExperimentConfig, OptimizerConfig


def build_optimizer(model: nn.Module, config: ExperimentConfig) -> Optimizer:
    """Returns SGD with momentum over `parameter_groups`; `set_learning_rate` sets the learning rate of each step."""
    optimizer = config.optimizer
    return torch.optim.SGD(
        parameter_groups(model, optimizer),
        lr=optimizer.scaled_lr(config.training.batch_size),
        momentum=optimizer.momentum,
        nesterov=optimizer.nesterov,
    )


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Returns one group of all parameters: the released code applies weight decay to biases and batch norms as well.

    A checkpoint stores the optimizer's state by group and index, so a change of the groups or of the order of their
    parameters makes older checkpoints unusable.
    """
    return [{"params": list(model.parameters()), "weight_decay": config.weight_decay}]


def load_optimizer_state(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Loads momentum buffers from a state_dict; settings such as weight decay stay those of `optimizer`.

    The state_dict holds the settings of the run that saved it, which a sweep may have changed since.
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
    """Returns the learning rate of the optimizer step after `step` steps: the schedule, scaled down during warmup.

    It is a pure function of the step, so a resumed run needs no scheduler state.
    """
    optimizer, epochs = config.optimizer, config.training.epochs
    scheduled = step if optimizer.poly_every == "step" else step - step % steps_per_epoch
    lr = optimizer.scaled_lr(config.training.batch_size)
    lr *= polynomial(scheduled / (steps_per_epoch * epochs), optimizer.poly_power)
    return warmed_up(lr, step, optimizer.warmup_epochs * steps_per_epoch)


def polynomial(done: float, power: float) -> float:
    """Returns the factor of the polynomial schedule, from 1 to 0; `done` is the completed fraction of training."""
    return (1 - done) ** power


def warmed_up(lr: float, step: int, steps: float) -> float:
    """Returns `lr` during linear warmup over `steps` steps, and `lr` itself after it (arXiv:1706.02677)."""
    return lr * (step + 1) / steps if step + 1 < steps else lr
