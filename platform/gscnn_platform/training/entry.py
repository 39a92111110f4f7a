"""Where a Train worker enters. Light to import: Ray's controller unpickles it too and needs no torch, no MLflow."""

from typing import Any


def run_worker(job: dict[str, Any]) -> None:
    """Runs train_loop_per_worker; `job` is a WorkerJob as plain values."""
    from gscnn_platform.training.loop import WorkerJob, train_loop_per_worker

    train_loop_per_worker(WorkerJob.model_validate(job))
