"""Simulated cluster nodes, for tests of what fits on them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import ray

from gscnn_platform.cluster import Node


def clusters(count: int) -> list[list[Node]]:
    rng = np.random.default_rng(0)
    return [
        [Node(int(rng.integers(1, 17)), int(rng.integers(0, 5))) for _ in range(rng.integers(1, 5))]
        for _ in range(count)
    ]


def there(monkeypatch: pytest.MonkeyPatch, nodes: Sequence[Node], head: bool = False) -> None:
    """Makes Ray report these nodes, in the form of `ray.nodes()`."""
    known: list[dict[str, Any]] = [
        {
            "Alive": True,
            "Resources": {"CPU": float(node.cpus), "memory": 1e9, **({"GPU": node.gpus} if node.gpus else {})},
        }
        for node in nodes
    ]
    if head:
        known.append({"Alive": True, "Resources": {"node:__internal_head__": 1.0, "memory": 1e9}})
    monkeypatch.setattr(ray, "nodes", lambda: known)
