"""What the driver asks of its workers."""

from gscnn_platform.config import Config, ExperimentConfig


class WorkerJob(Config):
    """What the driver hands to every worker; paths are absolute."""

    config: ExperimentConfig
    store: str
    folder: str
    """Of the run, a path or URI."""
    outbox: str
    """Folder for what waits for the tracking server."""
    tracking_uri: str
    run_id: str
    use_gpu: bool
    cpus: int
