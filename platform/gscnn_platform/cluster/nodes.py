"""The nodes of a cluster, and how many workers fit on them."""

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

SHOWN_KINDS: Final = 4
"""Kinds of nodes that an error lists."""


class Node(NamedTuple):
    """The resources that Ray can assign on one machine: whole CPU cores and GPUs."""

    cpus: int
    gpus: int = 0

    def __str__(self) -> str:
        return f"{self.cpus} CPU and {self.gpus} GPU" if self.gpus else f"{self.cpus} CPU"

    def room(self, cpus: int, gpus: int) -> int:
        """How many workers with `cpus` cores, one or more, and `gpus` GPUs fit."""
        return min(self.cpus // cpus, self.gpus // gpus) if gpus else self.cpus // cpus


def alive_nodes() -> list[Node]:
    """The nodes that are alive and run tasks; a head that was started with 0 CPUs is not one of them."""
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    found = [Node(int(there.get("CPU", 0)), int(there.get("GPU", 0))) for there in alive]
    return [node for node in found if node.cpus]


def room(nodes: Sequence[Node], cpus: int, gpus: int) -> int:
    """How many workers with `cpus` cores and `gpus` GPUs fit; each must fit on a single node."""
    return sum(node.room(cpus, gpus) for node in nodes)


def share(nodes: Sequence[Node], num_workers: int, gpus: int) -> int:
    """CPU cores for each of `num_workers` workers, at least 1.

    On the CPU, the most with which all of them fit. With a GPU each, a node's cores per GPU: with more, fewer workers
    than GPUs would fit on a node, and the others would communicate with them over the network.
    """
    if gpus:
        of_each_gpu = sorted((node.cpus // node.gpus for node in nodes for _ in range(node.gpus)), reverse=True)
        return max(1, min(of_each_gpu[:num_workers], default=1))
    most = max((node.cpus for node in nodes), default=1)
    return next((cpus for cpus in range(most, 1, -1) if room(nodes, cpus, 0) >= num_workers), 1)


def lacking(num_workers: int, cpus: int, gpus: int) -> str | None:
    """The resources that the workers need and the nodes lack; None if the workers fit."""
    there = alive_nodes()
    fitting = room(there, cpus, gpus)
    if fitting >= num_workers:
        return None
    return f"{num_workers} x {Node(cpus, gpus)}, and the cluster has {_described(there)}, room for {fitting}"


def _described(nodes: Sequence[Node]) -> str:
    """`2 nodes of 96 CPU and 8 GPU, 1 node of 4 CPU`, the most frequent kinds first."""
    kinds = Counter(nodes).most_common()
    shown = [f"{count} node{'s' if count > 1 else ''} of {node}" for node, count in kinds[:SHOWN_KINDS]]
    others = sum(count for _, count in kinds[SHOWN_KINDS:])
    return ", ".join(shown + ([f"{others} others"] if others else [])) or "no node that runs tasks"
