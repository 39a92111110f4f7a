"""Sets up each worker process, through Ray's worker_process_setup_hook."""

import logging
import os
from typing import Final

import ray

from gscnn_platform import machine

SLOW_STARTS: Final = 3
"""Requests for resources that may go unanswered while a cluster starts."""
_OVERLOADED: Final = "ray.train.v2._internal.execution.scaling_policy.autoscaling_coordinator_client"
"""Logger of a warning that "is safe to ignore" while CPUs are overloaded, as at most starts on a laptop."""


def set_up_worker() -> None:
    """Tells the worker's child processes and queries which cluster is theirs.

    Ray's State API looks for clusters on the machine, and fails if several run there ("Found multiple active Ray
    instances"). Ray Train queries it to free the resources of a killed driver; if that fails, a sweep's later trials
    wait forever.
    """
    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    machine.prepare_process()
    logging.getLogger(_OVERLOADED).addFilter(_Persisting())


class _Persisting(logging.Filter):
    """Lets a warning through, without its traceback, once it repeats too often for a slow start."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def filter(self, record: logging.LogRecord) -> bool:
        self.count += 1
        record.exc_info = None
        return self.count > SLOW_STARTS
