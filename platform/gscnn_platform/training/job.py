"""The job that the driver sends to its workers, and the workers' entry point.

Light to import: Ray's controller unpickles `run_worker` too and needs no torch or MLflow.
"""

from typing import Any

from gscnn_platform.config import Config, ExperimentConfig
from gscnn_platform.runs.folder import RunFolder
from gscnn_platform.runs.ref import RunRef


class WorkerJob(Config):
    """The job that the driver sends to every worker; paths are absolute."""

    config: ExperimentConfig
    store: str
    folder: RunFolder
    run: RunRef
    use_gpu: bool
    cpus: int


def run_worker(given: dict[str, Any]) -> None:
    """Runs train_loop_per_worker; `given` holds a WorkerJob as plain values, and the DriverLink."""
    from gscnn_platform.training.loop import train_loop_per_worker

    train_loop_per_worker(WorkerJob.model_validate(given["job"]), given["link"])
