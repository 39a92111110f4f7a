"""The base of all configs."""

from dataclasses import dataclass
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

T = TypeVar("T")


class Config(BaseModel):
    """Base of all configs: immutable, and unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


@dataclass(frozen=True)
class InlineMark:
    """Marks a config in another whose fields are options without its name: `--seed`, not `--recipe.seed`."""


Inline = Annotated[T, InlineMark()]
"""`recipe: Inline[ExperimentConfig]`: its fields are options and keys beside those of the config that has it."""


def is_inline(field: FieldInfo) -> bool:
    """Whether the field is marked `Inline`."""
    return any(isinstance(mark, InlineMark) for mark in field.metadata)
