"""Optimizer and learning rate schedule."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from gscnn_platform.config.base import Config


class OptimizerConfig(Config):
    """An optimizer, the settings of its parameter groups, and a schedule of the learning rate."""

    name: Literal["sgd", "adamw"] = "sgd"
    """SGD with momentum, or Adam with decoupled weight decay (arXiv:1711.05101), which needs a smaller `lr`, such as
    0.0003."""
    lr: float = Field(default=0.01, gt=0)
    """Learning rate at the start, before `lr_scaling` (released code: 0.01 for 8 images per step, 1 per GPU); with
    one_cycle its maximum."""
    lr_scaling: Literal["linear", "sqrt"] | None = None
    """Scaling of the learning rate with `training.batch_size / lr_base_batch`: linear (arXiv:1706.02677) or with its
    square root (arXiv:1404.5997); None: no scaling."""
    lr_base_batch: int = Field(default=16, ge=1)
    """Images per step that `lr` was chosen for; used if `lr_scaling` is set."""
    backbone_lr_factor: float = Field(default=1.0, gt=0)
    """Learning rate of the backbone divided by that of all other parts (released code: 1); less than 1 is common for
    pretrained weights."""
    warmup_epochs: float = Field(default=0.0, ge=0)
    """Epochs of linear learning rate warmup; use 5 if `lr_scaling` increases the rate much (arXiv:1706.02677, section
    2.2). Must be 0 with one_cycle, which has its own rise."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of SGD (released code: 0.9). Not used by AdamW."""
    nesterov: bool = False
    """Use Nesterov momentum in SGD. Not used by AdamW."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay per step of AdamW's averages of the gradient and of its square (arXiv:1412.6980). Not used by SGD."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """SGD: L2 penalty (released code: 1e-4). AdamW: share of a weight that is subtracted per step, times the learning
    rate; 0.01 in PyTorch."""
    decay_norms_and_biases: bool = True
    """Apply weight decay also to biases and to the scale and shift of norms, which are the parameters of one dimension
    (released code: yes; arXiv:1812.01187, section 3.1: no)."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Maximum norm of all gradients together (gradient clipping); None: no clipping."""
    schedule: Literal["poly", "cosine", "one_cycle", "constant"] = "poly"
    """Learning rate over the steps: poly (released code) and cosine (arXiv:1608.03983, without restarts) fall from `lr`
    to 0; one_cycle rises from `lr / 25` to `lr` and falls to `lr / 250000`, each along a cosine (arXiv:1708.07120, as
    torch's OneCycleLR, but at constant momentum)."""
    poly_power: float = Field(default=1.0, ge=0)
    """Exponent of lr * (1 - step / steps) ** power (released code: 1). Used by poly only."""
    poly_every: Literal["step", "epoch"] = "step"
    """Whether the learning rate decays at each optimizer step or at the end of each epoch (released code: epoch).
    Used by poly only."""
    one_cycle_rise: float = Field(default=0.3, gt=0, lt=1)
    """Share of the steps in which the learning rate rises. Used by one_cycle only."""

    @field_validator("betas")
    @classmethod
    def _decays(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in value):
            raise ValueError("each must be 0 or more and less than 1")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.name == "sgd" and self.nesterov and not self.momentum:
            raise ValueError("`momentum` is 0: must be more than 0 with `nesterov`")
        if self.schedule == "one_cycle" and self.warmup_epochs:
            raise ValueError(
                f"`warmup_epochs` is {self.warmup_epochs:g}: must be 0 with `schedule` one_cycle, which has its "
                "own rise: set `one_cycle_rise`"
            )
        return self

    def scaled_lr(self, batch_size: int) -> float:
        """`lr` scaled by `lr_scaling` for `batch_size` images per step."""
        if self.lr_scaling is None:
            return self.lr
        growth = batch_size / self.lr_base_batch
        return self.lr * (growth if self.lr_scaling == "linear" else growth**0.5)

    def describe_lr(self, batch_size: int) -> str:
        """`learning rate 0.04 (0.01 for 16 images, linear), schedule poly, warm-up over epochs: 5`, for users."""
        how = f" ({self.lr:g} for {self.lr_base_batch} images, {self.lr_scaling})" if self.lr_scaling else ""
        factor = self.backbone_lr_factor
        backbone = f", {factor:g} times that for the backbone" if factor != 1 else ""
        rises = f", warm-up over epochs: {self.warmup_epochs:g}" if self.warmup_epochs else ""
        return f"learning rate {self.scaled_lr(batch_size):g}{how}{backbone}, schedule {self.schedule}{rises}"
