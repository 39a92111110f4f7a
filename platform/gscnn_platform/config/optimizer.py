"""Optimizer and learning rate schedule."""

from typing import Literal

from pydantic import Field

from gscnn_platform.config.base import Config


class OptimizerConfig(Config):
    """SGD with momentum under a polynomial schedule."""

    lr: float = Field(default=0.01, gt=0)
    """Learning rate at the start, before `lr_scaling` (released code: 0.01 for 8 images a step, 1 a GPU)."""
    lr_scaling: Literal["linear", "sqrt"] | None = None
    """How the learning rate grows with `training.batch_size / lr_base_batch`: in proportion (arXiv:1706.02677) or with
    its square root (arXiv:1404.5997); None: not at all."""
    lr_base_batch: int = Field(default=16, ge=1)
    """Images a step that `lr` was chosen for; read where `lr_scaling` is set."""
    warmup_epochs: float = Field(default=0.0, ge=0)
    """Epochs in which the learning rate rises from next to 0 to its schedule, by the same part at each step; 5 where
    `lr_scaling` raises it much (arXiv:1706.02677, section 2.2)."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum (released code: 0.9)."""
    nesterov: bool = False
    """Nesterov's form of momentum."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """L2 penalty (released code: 1e-4)."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Largest norm of all gradients together, to which longer ones are scaled down; None: no clipping."""
    poly_power: float = Field(default=1.0, ge=0)
    """Exponent of lr * (1 - step / steps) ** power (released code: 1)."""
    poly_every: Literal["step", "epoch"] = "step"
    """Whether the polynomial falls with each optimizer step, or at the end of each epoch (released code: epoch)."""

    def scaled_lr(self, batch_size: int) -> float:
        """`lr` for so many images a step, as `lr_scaling` has it."""
        if self.lr_scaling is None:
            return self.lr
        growth = batch_size / self.lr_base_batch
        return self.lr * (growth if self.lr_scaling == "linear" else growth**0.5)

    def describe_lr(self, batch_size: int) -> str:
        """`learning rate 0.04 (0.01 for 16 images, linear), warm-up over epochs: 5`, for people."""
        how = f" ({self.lr:g} for {self.lr_base_batch} images, {self.lr_scaling})" if self.lr_scaling else ""
        rises = f", warm-up over epochs: {self.warmup_epochs:g}" if self.warmup_epochs else ""
        return f"learning rate {self.scaled_lr(batch_size):g}{how}{rises}"
