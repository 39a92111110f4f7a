"""Builds the optimizer with its parameter groups, and computes the learning rate as a pure function of the step."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gscnn.backbones.taps import Backbone
from gscnn_platform.config import ExperimentConfig, OptimizerConfig


def build_optimizer(model: nn.Module, config: ExperimentConfig) -> Optimizer:
    """Returns the optimizer over `parameter_groups`; `set_learning_rate` sets the learning rate of each step."""
    optimizer = config.optimizer
    groups, lr = parameter_groups(model, optimizer), optimizer.scaled_lr(config.training.batch_size)
    if optimizer.name == "adamw":
        return torch.optim.AdamW(groups, lr=lr, betas=optimizer.betas)
    return torch.optim.SGD(groups, lr=lr, momentum=optimizer.momentum, nesterov=optimizer.nesterov)


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Returns a group for each pair of weight decay and `lr_factor` (see `set_learning_rate`), of all parameters.

    Frozen parameters are in them too: an optimizer does not change a parameter without a gradient, not even by weight
    decay.
    """
    backbone = {parameter for part in model.modules() if isinstance(part, Backbone) for parameter in part.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        decay = config.weight_decay if config.decay_norms_and_biases or parameter.ndim > 1 else 0.0
        factor = config.backbone_lr_factor if parameter in backbone else 1.0
        groups.setdefault((decay, factor), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "lr_factor": factor}
        for (decay, factor), parameters in groups.items()
    ]


def optimizer_state(model: nn.Module, optimizer: Optimizer, config: OptimizerConfig) -> dict[str, Any]:
    """Returns the momentum buffers and the like by index of the parameter in the model, independent of the groups."""
    places: dict[Tensor, int] = {parameter: place for place, parameter in enumerate(model.parameters())}
    state = {places[parameter]: values for parameter, values in optimizer.state.items()}
    return {"name": config.name, "state": state}


def load_optimizer_state(
    model: nn.Module, optimizer: Optimizer, config: OptimizerConfig, saved: dict[str, Any]
) -> None:
    """Loads what `optimizer_state` returned; settings and groups stay those of `config`, which a sweep may change.

    The state of another optimizer is dropped. Older checkpoints hold the state_dict of SGD over a single group, with
    the same indices and without a name.
    """
    if saved.get("name", "sgd") != config.name:
        return
    places = {parameter: place for place, parameter in enumerate(model.parameters())}
    ours = [places[parameter] for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = saved["state"]
    numbered = {number: state[place] for number, place in enumerate(ours) if place in state}
    optimizer.load_state_dict({"state": numbered, "param_groups": optimizer.state_dict()["param_groups"]})


def set_learning_rate(optimizer: Optimizer, lr: float) -> dict[str, float]:
    """Sets the learning rate of each parameter group to `lr` times its `lr_factor`.

    Returns what to log: `lr`, and `lr_backbone` where the backbone's differs.
    """
    rates = {"lr": lr}
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]
        if group["lr_factor"] != 1:
            rates["lr_backbone"] = group["lr"]
    return rates


def learning_rate(config: ExperimentConfig, step: int, steps_per_epoch: int) -> float:
    """Returns the learning rate of the optimizer step after `step` steps: the schedule, scaled down during warmup.

    It is a pure function of the step, so a resumed run needs no scheduler state.
    """
    optimizer, total = config.optimizer, steps_per_epoch * config.training.epochs
    lr = optimizer.scaled_lr(config.training.batch_size)
    match optimizer.schedule:
        case "poly":
            scheduled = step if optimizer.poly_every == "step" else step - step % steps_per_epoch
            lr *= polynomial(scheduled / total, optimizer.poly_power)
        case "cosine":
            lr *= cosine(step / total)
        case "one_cycle":
            lr *= one_cycle(step, total, optimizer.one_cycle_rise)
        case "constant":
            pass
    return warmed_up(lr, step, optimizer.warmup_epochs * steps_per_epoch)


def polynomial(done: float, power: float) -> float:
    """Returns the factor of the polynomial schedule, from 1 to 0; `done` is the completed fraction of training."""
    return (1 - done) ** power


def cosine(done: float) -> float:
    """Share of the first learning rate after the part `done` of the training, 0 to 1: from 1 to 0.

    Source: Loshchilov and Hutter, arXiv:1608.03983, equation 5, without restarts.
    """
    return (1 + math.cos(math.pi * done)) / 2


def one_cycle(step: int, steps: int, rise: float) -> float:
    """Share of the maximum learning rate after `step` of `steps` steps: from 1/25 to 1 to 1/250000, along cosines.

    Source: Smith and Topin, arXiv:1708.07120. Shares, cosines and the step of the maximum, `rise * steps - 1`, are
    those of torch's OneCycleLR.
    """
    first, last, top = 1 / 25, 1 / 250_000, rise * steps - 1
    if step < top:
        return 1 + (first - 1) * cosine(step / top)
    return last + (1 - last) * cosine((step - top) / (steps - 1 - top))


def warmed_up(lr: float, step: int, steps: float) -> float:
    """Returns `lr` during linear warmup over `steps` steps, and `lr` itself after it (arXiv:1706.02677)."""
    return lr * (step + 1) / steps if step + 1 < steps else lr
