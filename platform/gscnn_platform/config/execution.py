"""The fields that change how a run is executed, not what it computes: those marked `Execution`."""

from collections.abc import Iterator
from typing import Final

from pydantic import BaseModel

from gscnn.config import ExecutionMark
from gscnn_platform.config.base import is_inline
from gscnn_platform.config.experiment import ExperimentConfig


def execution_fields(config: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted keys of the fields that are marked `Execution`, in a config and its nested configs."""
    for name, field in config.model_fields.items():
        if any(isinstance(mark, ExecutionMark) for mark in field.metadata):
            yield f"{prefix}{name}"
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from execution_fields(field.annotation, prefix if is_inline(field) else f"{prefix}{name}.")


EXECUTION: Final = frozenset(execution_fields(ExperimentConfig))
"""Fields of a training run that may change when it resumes; a sweep does not search them."""
