"""Connects to Ray on a laptop, on a node of a running cluster or in a submitted job, with the same code.

The functions that use Ray import it, because paths are resolved before a cluster is needed.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager

from gscnn_platform.cluster.errors import ClusterError, ResourcesError
from gscnn_platform.cluster.nodes import Node, alive_nodes, lacking, room, share
from gscnn_platform.cluster.places import check_can_write, default_storage, in_submitted_job, resolve, resolve_local
from gscnn_platform.cluster.workers import ResourceOptions, Workers, run_on_worker, wait_for_nodes, workers_for


def connect(dashboard: bool = True) -> None:
    """Joins the cluster that RAY_ADDRESS or `ray start` named, or starts one on this machine; idempotent.

    Args:
        dashboard: whether to start a new cluster with a dashboard, and with it the State API, which Ray Train and Tune
            query; without it, Ray starts 2 s earlier on 2 cores.

    Raises:
        ClusterError: the named cluster does not answer or rejects this user, or none can be started here.
    """
    from gscnn_platform.cluster.connecting import join_or_start

    join_or_start(dashboard)


def check_can_connect() -> None:
    """Checks, within seconds, that the named cluster can be joined, or that one can be started on this machine.

    Raises:
        ClusterError: as for `connect`.
    """
    from gscnn_platform.cluster.connecting import check

    check()


def would_start() -> bool:
    """Whether `connect` would start a cluster, since none is named and this process has joined none.

    Raises:
        ClusterError: RAY_ADDRESS is no address, or is `auto` and no cluster or several run on this machine.
    """
    from gscnn_platform.cluster.connecting import would_start

    return would_start()


def is_own() -> bool:
    """Whether `connect` started the cluster, on this machine and for this process alone."""
    from gscnn_platform.cluster import connecting

    return connecting.is_own()


def environment(variables: Mapping[str, str]) -> AbstractContextManager[None]:
    """Sets environment variables for a block, except those that the user has set."""
    from gscnn_platform.cluster import connecting

    return connecting.environment(variables)


__all__ = [
    "ClusterError",
    "Node",
    "ResourceOptions",
    "ResourcesError",
    "Workers",
    "alive_nodes",
    "check_can_connect",
    "check_can_write",
    "connect",
    "default_storage",
    "environment",
    "in_submitted_job",
    "is_own",
    "lacking",
    "resolve",
    "resolve_local",
    "room",
    "run_on_worker",
    "share",
    "wait_for_nodes",
    "workers_for",
    "would_start",
]
