"""Entry point of a Train worker. Light to import: Ray's controller unpickles it too and needs no torch or MLflow."""

from typing import Any


def run_worker(given: dict[str, Any]) -> None:
    """Runs train_loop_per_worker; `given` holds a WorkerJob as plain values, and the DriverLink."""
    from gscnn_platform.training.job import WorkerJob
    from gscnn_platform.training.loop import train_loop_per_worker

    train_loop_per_worker(WorkerJob.model_validate(given["job"]), given["link"])
