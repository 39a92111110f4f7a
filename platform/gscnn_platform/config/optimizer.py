"""Optimizer and learning rate schedule."""

from typing import Literal

from pydantic import Field

from gscnn_platform.config.base import Config


class OptimizerConfig(Config):
    """SGD with momentum under a polynomial schedule."""

    lr: float = Field(default=0.01, gt=0)
    """Learning rate at the start, before `lr_scaling` (released code: 0.01 for 8 images per step, 1 per GPU)."""
    lr_scaling: Literal["linear", "sqrt"] | None = None
    """Scaling of the learning rate with `training.batch_size / lr_base_batch`: linear (arXiv:1706.02677) or with its
    square root (arXiv:1404.5997); None: no scaling."""
    lr_base_batch: int = Field(default=16, ge=1)
    """Images per step that `lr` was chosen for; used if `lr_scaling` is set."""
    warmup_epochs: float = Field(default=0.0, ge=0)
    """Epochs of linear learning rate warmup; use 5 if `lr_scaling` increases the rate much (arXiv:1706.02677, section
    2.2)."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum (released code: 0.9)."""
    nesterov: bool = False
    """Use Nesterov momentum."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """L2 penalty (released code: 1e-4)."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Maximum norm of all gradients together (gradient clipping); None: no clipping."""
    poly_power: float = Field(default=1.0, ge=0)
    """Exponent of lr * (1 - step / steps) ** power (released code: 1)."""
    poly_every: Literal["step", "epoch"] = "step"
    """Whether the learning rate decays at each optimizer step or at the end of each epoch (released code: epoch)."""

    def scaled_lr(self, batch_size: int) -> float:
        """`lr` scaled by `lr_scaling` for `batch_size` images per step."""
        if self.lr_scaling is None:
            return self.lr
        growth = batch_size / self.lr_base_batch
        return self.lr * (growth if self.lr_scaling == "linear" else growth**0.5)

    def describe_lr(self, batch_size: int) -> str:
        """`learning rate 0.04 (0.01 for 16 images, linear), warm-up over epochs: 5`, for users."""
        how = f" ({self.lr:g} for {self.lr_base_batch} images, {self.lr_scaling})" if self.lr_scaling else ""
        rises = f", warm-up over epochs: {self.warmup_epochs:g}" if self.warmup_epochs else ""
        return f"learning rate {self.scaled_lr(batch_size):g}{how}{rises}"
