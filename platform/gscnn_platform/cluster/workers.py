"""The resources of a job's workers, decided in one place for every job, and waiting for the nodes that provide them."""

import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from gscnn_platform.activity import doing
from gscnn_platform.cluster.errors import ResourcesError
from gscnn_platform.cluster.nodes import alive_nodes, lacking, room, share

LOOK_SECONDS: Final = 1.0
"""Seconds between checks of the nodes."""

T = TypeVar("T")


class ResourceOptions(Protocol):
    """Every job's options for the resources of its workers."""

    @property
    def use_gpu(self) -> bool | None:
        """None: if the cluster has any."""
        ...

    @property
    def cpus_per_worker(self) -> int | None:
        """None: the job chooses."""
        ...

    @property
    def wait_for_nodes(self) -> bool:
        """Whether to wait for missing nodes instead of failing."""
        ...


class Workers(NamedTuple):
    """The workers of a job."""

    number: int
    """Number of workers."""
    cpus: int
    """CPU cores per worker."""
    gpus: int
    """GPUs per worker: 0 or 1."""
    room: int
    """How many fit on the nodes that are alive: fewer than needed if the job waits for nodes."""

    @property
    def use_gpu(self) -> bool:
        return bool(self.gpus)


def workers_for(
    options: ResourceOptions,
    number: int | None,
    needed: int | None = None,
    most: int | None = None,
    cores: int = 1,
) -> Workers:
    """The resources of a job's workers on this cluster, decided in the same way for every job.

    A worker with a GPU gets the GPU's share of its node's cores; without GPUs, workers get the most with which all fit.

    Args:
        options: the user's options.
        number: number of workers; None: as many as fit, at least 1.
        needed: workers that the job needs to start; None: `number`.
        most: maximum number of workers that have work; None: no maximum.
        cores: CPU cores of a worker without a GPU, to count how many fit if `number` is None.

    Raises:
        ResourcesError: fewer fit than needed, and the job does not wait for nodes; or it waits, and neither the cluster
            nor the options say whether for GPUs.
    """
    there = alive_nodes()
    has_gpus = any(node.gpus for node in there)
    gpus = int(has_gpus if options.use_gpu is None else options.use_gpu)
    number = number or max(1, room(there, options.cpus_per_worker or (1 if gpus else cores), gpus))
    number = min(number, most or number)
    cpus = options.cpus_per_worker or share(there, number, gpus)
    needed = needed or number
    short = lacking(needed, cpus, gpus)
    if short and not options.wait_for_nodes:
        kind = " --use-gpu True" if options.use_gpu is None and not has_gpus else ""
        ways = {
            "take fewer workers": needed > 1,
            "take fewer --cpus-per-worker": cpus > 1,
            "pass --use-gpu False": gpus and not has_gpus,
            f"pass --wait-for-nodes{kind} if the cluster scales": True,
        }
        raise ResourcesError(f"{_named(needed)} {short}: {', or '.join(way for way, helps in ways.items() if helps)}")
    if short and options.use_gpu is None and not has_gpus:
        raise ResourcesError(
            "--wait-for-nodes, and no GPU node has joined yet: pass --use-gpu True to wait for one, or --use-gpu False "
            "to run on the CPU"
        )
    return Workers(number, cpus, gpus, room(there, cpus, gpus))


def _named(needed: int) -> str:
    return f"--num-workers {needed} needs" if needed > 1 else "a worker needs"


def wait_for_nodes(workers: Workers, needed: int) -> None:
    """Returns once the cluster has room for `needed` of the workers; prints what it waits for.

    A cluster that scales adds nodes for pending requests: every worker's resources are requested until `needed` fit.
    """
    short = lacking(needed, workers.cpus, workers.gpus)
    if short is None:
        return
    from ray.util.placement_group import placement_group, remove_placement_group

    bundle: dict[str, float] = {"CPU": workers.cpus, **({"GPU": workers.gpus} if workers.gpus else {})}
    # One group per worker: if the cluster cannot grow enough for all of them, a joint request would get nothing.
    asked = [placement_group([bundle]) for _ in range(workers.number)]
    try:
        with doing(f"waiting for nodes: {_named(needed)} {short}"):
            while lacking(needed, workers.cpus, workers.gpus):
                time.sleep(LOOK_SECONDS)
    finally:
        for place in asked:
            remove_placement_group(place)


def run_on_worker(workers: Workers, function: Callable[..., T], *arguments: object) -> T:
    """Runs `function` on a node with room for one of the workers and returns its result; waits for such a node.

    Raises what the function raises.
    """
    import ray
    from ray.exceptions import RayTaskError

    wait_for_nodes(workers, needed=1)
    task: Any = ray.remote(num_cpus=workers.cpus, num_gpus=workers.gpus)(function)
    try:
        return ray.get(task.remote(*arguments))
    except RayTaskError as error:
        # The worker's traceback in the message would hide what is wrong.
        raise (error.cause if isinstance(error.cause, Exception) else error) from error
