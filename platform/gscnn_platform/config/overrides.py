"""Configs by dotted keys: `loss.edge`."""

from collections.abc import Mapping
from typing import Any, TypeVar

from gscnn_platform.config.base import Config

C = TypeVar("C", bound=Config)


def with_overrides(config: C, overrides: Mapping[str, Any]) -> C:
    """A copy of `config` with values at dotted keys replaced: `{"loss.edge": 20, "optimizer.lr": 0.01}`.

    Raises:
        KeyError: a key that the config does not have.
        pydantic.ValidationError: a value that the field refuses.
    """
    tree = config.model_dump()
    for key, value in overrides.items():
        *parents, leaf = key.split(".")
        node: Any = tree
        for name in parents:
            node = node.get(name) if isinstance(node, dict) else None
        if not isinstance(node, dict) or leaf not in node:
            raise KeyError(f"{key!r} is not a field of {type(config).__name__}")
        node[leaf] = value
    return type(config).model_validate(tree)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level of dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
