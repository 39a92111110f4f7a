"""Connecting to Ray, from a laptop, beside a running cluster or inside a submitted job, with the same code.

Ray is imported by the functions that talk to it: paths and places are resolved before there is any need of a cluster.
"""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from gscnn_platform.paths import RemotePath, as_path

PLATFORM_FOLDER: Final = Path(__file__).resolve().parents[1]
"""`<checkout>/platform`, or site-packages where the project is installed as a wheel."""


class ResourcesError(ValueError):
    """The cluster has less than the run asks for."""


def connect() -> None:
    """Joins the cluster that RAY_ADDRESS or `ray start` named, or starts one on this machine; idempotent.

    Workers are given the import path that they lack, so that a local edit takes effect with no reinstall.
    """
    import ray

    if ray.is_initialized():
        return
    # That a cluster of our own asks for a token is as it should be, and Ray warns of it at every start.
    setup = logging.getLogger("ray._private.authentication.authentication_token_setup")
    setup.addFilter(lambda record: "authentication is enabled" not in record.getMessage())
    pythonpath = _missing_pythonpath()
    runtime_env = {"env_vars": {"PYTHONPATH": pythonpath}} if pythonpath else None
    ray.init(runtime_env=runtime_env, logging_level=logging.WARNING)


def in_submitted_job() -> bool:
    """Whether this code runs from the copy that `ray job submit` uploaded."""
    return "working_dir_files" in PLATFORM_FOLDER.parts


def resolve(path: str, option: str) -> str:
    """An absolute path, or the URI as it is; workers run in other folders than the driver.

    Raises:
        ValueError: a relative path in a submitted job, where it would lie in the uploaded copy of the code.
    """
    place = as_path(path)
    if isinstance(place, RemotePath):
        return str(place)
    expanded = place.expanduser()
    if in_submitted_job() and not expanded.is_absolute():
        raise ValueError(
            f"{option} is {path!r}: give an absolute path or a URI to a submitted job, which runs elsewhere"
        )
    return str(expanded.absolute())


def resolve_local(path: str, option: str) -> Path:
    """As `resolve`, of a file that is written on this machine alone.

    Raises:
        ValueError: a URI, or a relative path in a submitted job.
    """
    if isinstance(as_path(path), RemotePath):
        raise ValueError(
            f"{option} is {path!r}: this is written to a folder of this machine; name one, and copy it then"
        )
    return Path(resolve(path, option))


def default_storage() -> str:
    """`runs` in the current folder, or `~/gscnn-runs` in a submitted job, whose folder is thrown away."""
    return str(Path.home() / "gscnn-runs") if in_submitted_job() else str(Path("runs").absolute())


SHOWN_KINDS: Final = 4
"""Kinds of nodes that an error lists."""


class Node(NamedTuple):
    """What Ray may give away on one machine: whole CPU cores and GPUs."""

    cpus: int
    gpus: int = 0

    def __str__(self) -> str:
        return f"{self.cpus} CPU and {self.gpus} GPU" if self.gpus else f"{self.cpus} CPU"

    def room(self, cpus: int, gpus: int) -> int:
        """How many workers of so many cores, one or more, and GPUs fit."""
        return min(self.cpus // cpus, self.gpus // gpus) if gpus else self.cpus // cpus


def alive_nodes() -> list[Node]:
    """Those that are alive and run tasks; a head that was started with 0 CPUs is none of them."""
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    found = [Node(int(there.get("CPU", 0)), int(there.get("GPU", 0))) for there in alive]
    return [node for node in found if node.cpus]


def room(nodes: Sequence[Node], cpus: int, gpus: int) -> int:
    """How many workers of so many cores and GPUs fit: none is split over nodes, whatever these have together."""
    return sum(node.room(cpus, gpus) for node in nodes)


def share(nodes: Sequence[Node], num_workers: int, gpus: int) -> int:
    """CPU cores for each of `num_workers` workers, 1 at least.

    On the CPU the most that lets all of them fit. With a GPU each, the cores that are there for each GPU: with more,
    fewer workers than GPUs would fit on a node, and the others would talk to them over the network.
    """
    if gpus:
        of_each_gpu = sorted((node.cpus // node.gpus for node in nodes for _ in range(node.gpus)), reverse=True)
        return max(1, min(of_each_gpu[:num_workers], default=1))
    most = max((node.cpus for node in nodes), default=1)
    return next((cpus for cpus in range(most, 1, -1) if room(nodes, cpus, 0) >= num_workers), 1)


def lacking(num_workers: int, cpus: int, gpus: int) -> str | None:
    """What so many workers need and the nodes that are alive do not have; None where they fit."""
    there = alive_nodes()
    fitting = room(there, cpus, gpus)
    if fitting >= num_workers:
        return None
    return f"{num_workers} x {Node(cpus, gpus)}, and the cluster has {_described(there)}, room for {fitting}"


def check_resources(num_workers: int, cpus: int, gpus: int) -> None:
    """Refuses a run that this cluster could only ever queue.

    Raises:
        ResourcesError: naming what is there and what was asked for.
    """
    short = lacking(num_workers, cpus, gpus)
    if short:
        raise ResourcesError(
            f"--num-workers {num_workers} needs {short}: take fewer workers, or fewer --cpus-per-worker, "
            "or --wait-for-nodes where the cluster grows by itself"
        )


def _described(nodes: Sequence[Node]) -> str:
    """`2 nodes of 96 CPU and 8 GPU, 1 node of 4 CPU`, the most frequent kinds first."""
    kinds = Counter(nodes).most_common()
    shown = [f"{count} node{'s' if count > 1 else ''} of {node}" for node, count in kinds[:SHOWN_KINDS]]
    others = sum(count for _, count in kinds[SHOWN_KINDS:])
    return ", ".join(shown + ([f"{others} others"] if others else [])) or "no node that runs tasks"


def _missing_pythonpath() -> str | None:
    """What workers need on PYTHONPATH, or None where they import the packages already.

    Setting the same key in the job's runtime environment and here is an error of Ray, hence only where missing.
    """
    if PLATFORM_FOLDER.name != "platform":
        return None
    known = [Path(path).resolve() for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if in_submitted_job():
        # Each worker has its own copy as current folder, so the relative path is right on every node.
        return None if PLATFORM_FOLDER in known else "platform"
    return os.pathsep.join([str(PLATFORM_FOLDER.parent), str(PLATFORM_FOLDER)])
