"""Which fields say how a run is carried out, by the mark that stands on each."""

from collections.abc import Iterator
from typing import Final

from pydantic import BaseModel

from gscnn.config import ExecutionMark
from gscnn_platform.config.experiment import ExperimentConfig


def execution_fields(config: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted keys of the fields that are marked `Execution`, of a config and of those in it."""
    for name, field in config.model_fields.items():
        if any(isinstance(mark, ExecutionMark) for mark in field.metadata):
            yield f"{prefix}{name}"
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from execution_fields(field.annotation, f"{prefix}{name}.")


EXECUTION: Final = frozenset(execution_fields(ExperimentConfig))
"""Of a training run: it may resume under other values of these, and none is searched."""
