"""The weights that a run starts from."""

import re
from typing import Final, Literal

from pydantic import Field, field_validator

from gscnn_platform import machine
from gscnn_platform.config.base import Config

TORCHVISION: Final = ("IMAGENET1K_V1", "IMAGENET1K_V2", "imagenet")
"""Names that `model.weights` takes."""


NAMED: Final = re.compile(r"[0-9a-f]{32}|\w+:/.*")
"""An MLflow run id, `models:/NAME@ALIAS` or a URI: no path of this machine."""


class InitConfig(Config):
    """The weights that a run starts from."""

    weights: str | None = Field(default=None, min_length=1)
    """A file (.pth, .pt, .safetensors), a checkpoint's or a run's folder, an MLflow run id, `models:/NAME@best`, or a
    URI: this project's weights, the authors' released checkpoint, their ImageNet weights of WideResNet-38, or
    torchvision's or timm's of a backbone. What does not fit by name and shape is initialized. Read once, when the run
    is created; None: random weights, or those that `model.weights` names."""
    parts: Literal["backbone", "all"] = "all"
    """Which parts of the model to load from `weights`: its backbone, or all that fits."""

    @field_validator("weights")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        """A path is kept as an absolute one: workers, and a later command that resumes, may run in another folder."""
        if value in TORCHVISION:
            raise ValueError(f"these are torchvision's weights, which the backbone names: --model.weights {value}")
        return value if value is None or NAMED.fullmatch(value) else str(machine.expanded(value).absolute())
