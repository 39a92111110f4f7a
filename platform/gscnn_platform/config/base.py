"""The base of all configs."""

from dataclasses import dataclass
from typing import Annotated, TypeVar

from pydantic.fields import FieldInfo

from gscnn.config import Config

__all__ = ["Config", "Inline", "InlineMark", "is_inline"]

T = TypeVar("T")


@dataclass(frozen=True)
class InlineMark:
    """Marks a config in another whose fields are options without its name: `--seed`, not `--recipe.seed`."""


Inline = Annotated[T, InlineMark()]
"""`recipe: Inline[ExperimentConfig]`: its fields are options and keys beside those of the config that has it."""


def is_inline(field: FieldInfo) -> bool:
    """Whether the field is marked `Inline`."""
    return any(isinstance(mark, InlineMark) for mark in field.metadata)
