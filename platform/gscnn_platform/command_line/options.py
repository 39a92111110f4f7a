"""The options of a job, from the fields of its config or the parameters of its function."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from gscnn_platform.config import is_inline
from gscnn_platform.invalid_values import shown


@dataclass(frozen=True)
class Option:
    key: str
    """Dotted, as in the config."""
    default: Any
    doc: str

    @property
    def flag(self) -> str:
        return spelled(self.key)

    @property
    def with_default(self) -> str:
        """`--loss.edge 5`, `--store (required)`; only the flag if the default is None or the option is a switch that is
        off."""
        if self.default is PydanticUndefined:
            return f"{self.flag} (required)"
        return self.flag if self.default is None or self.default is False else f"{self.flag} {shown(self.default)}"

    @property
    def switches(self) -> tuple[str, ...]:
        """The flags for True and for False; empty for an option that takes a value."""
        folder, dot, leaf = self.flag[2:].rpartition(".")
        return (self.flag, f"--{folder}{dot}no-{leaf}") if isinstance(self.default, bool) else ()


@dataclass(frozen=True)
class Options:
    all: tuple[Option, ...]

    @classmethod
    def of(cls, target: BaseModel | type[BaseModel] | Callable[..., object]) -> Self:
        """The options of a config (with its values as defaults), of a config class, or of a function."""
        if isinstance(target, BaseModel) or (inspect.isclass(target) and issubclass(target, BaseModel)):
            return cls(tuple(_fields(target, "")))
        parameters = inspect.signature(target).parameters.values()
        return cls(tuple(Option(each.name, each.default, "") for each in parameters))

    def optional(self) -> Self:
        """The options without those that are required, where a job takes these as positional arguments."""
        return type(self)(tuple(option for option in self.all if option.default is not PydanticUndefined))

    def flags(self) -> list[str]:
        """All flags, including the negations of switches."""
        return [flag for option in self.all for flag in option.switches or (option.flag,)]

    def first(self, keys: tuple[str, ...]) -> tuple[Option, ...]:
        """The options of `keys`, in that order; all options if `keys` is empty."""
        by_key = {option.key: option for option in self.all}
        return tuple(by_key[key] for key in keys) or self.all


def spelled(key: str) -> str:
    """`--training.batch-size` for training.batch_size."""
    return f"--{key.replace('_', '-')}"


def _fields(target: BaseModel | type[BaseModel], prefix: str) -> Iterator[Option]:
    of_class = target if inspect.isclass(target) else type(target)
    for name, field in of_class.model_fields.items():
        value = getattr(target, name) if isinstance(target, BaseModel) else field.get_default(call_default_factory=True)
        if isinstance(value, BaseModel):
            yield from _fields(value, prefix if is_inline(field) else f"{prefix}{name}.")
        else:
            yield Option(f"{prefix}{name}", value, field.description or "")
