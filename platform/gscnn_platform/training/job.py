"""The job that the driver sends to its workers."""

from gscnn_platform.config import Config, ExperimentConfig


class WorkerJob(Config):
    """The job that the driver sends to every worker; paths are absolute."""

    config: ExperimentConfig
    store: str
    folder: str
    """Folder of the run, a path or URI."""
    outbox: str
    """The run's outbox folder."""
    tracking_uri: str
    run_id: str
    use_gpu: bool
    cpus: int
