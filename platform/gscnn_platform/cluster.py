"""Connecting to Ray, from a laptop, beside a running cluster or inside a submitted job, with the same code."""

import logging
import os
from pathlib import Path
from typing import Final

import ray

PLATFORM_FOLDER: Final = Path(__file__).resolve().parents[1]
"""`<checkout>/platform`, or site-packages where the project is installed as a wheel."""


class ResourcesError(ValueError):
    """The cluster has less than the run asks for."""


def connect() -> None:
    """Joins the cluster that RAY_ADDRESS or `ray start` named, or starts one on this machine; idempotent.

    Workers are given the import path that they lack, so that a local edit takes effect with no reinstall.
    """
    if ray.is_initialized():
        return
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
    if "://" in path:
        return path
    expanded = Path(path).expanduser()
    if in_submitted_job() and not expanded.is_absolute():
        raise ValueError(
            f"{option} is {path!r}: give an absolute path or a URI to a submitted job, which runs elsewhere"
        )
    return str(expanded.absolute())


def default_storage() -> str:
    """`runs` in the current folder, or `~/gscnn-runs` in a submitted job, whose folder is thrown away."""
    return str(Path.home() / "gscnn-runs") if in_submitted_job() else str(Path("runs").absolute())


def lacking(num_workers: int, cpus: int, gpus: int) -> str | None:
    """What the nodes that are alive have too little of for so many workers; None where it is enough."""
    there = ray.cluster_resources()
    short = [
        f"{num_workers} x {per_worker} {kind}, and the cluster has {there.get(kind, 0):g}"
        for kind, per_worker in (("CPU", cpus), ("GPU", gpus))
        if num_workers * per_worker > there.get(kind, 0)
    ]
    return "; ".join(short) or None


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
