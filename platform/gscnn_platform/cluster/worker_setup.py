"""Sets up each worker process, through Ray's worker_process_setup_hook."""

import logging
import os
from typing import Final

import ray

from gscnn_platform import machine

TRANSIENT_WARNINGS: Final = 3
"""Warnings of a logger below that are dropped: Ray repeats its request, and more of them are a fault."""
_TRANSIENT: Final = (
    # Requests for resources go unanswered while CPUs are overloaded, as at most starts on a laptop.
    "ray.train.v2._internal.execution.scaling_policy.autoscaling_coordinator_client",
    # The State API does not answer while a driver's own cluster shuts down.
    "ray.train.v2._internal.execution.controller.placement_group_cleaner",
)


def set_up_worker() -> None:
    """Tells the worker's child processes and queries which cluster is theirs.

    Ray's State API looks for clusters on the machine, and fails if several run there ("Found multiple active Ray
    instances"). Ray Train queries it to free the resources of a killed driver; if that fails, a sweep's later trials
    wait forever.
    """
    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    machine.prepare_process()
    for name in _TRANSIENT:
        logging.getLogger(name).addFilter(_Persisting())


class _Persisting(logging.Filter):
    """Lets a warning through, without its traceback, once it has repeated too often to be transient."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def filter(self, record: logging.LogRecord) -> bool:
        self.count += 1
        record.exc_info = None
        return self.count > TRANSIENT_WARNINGS
