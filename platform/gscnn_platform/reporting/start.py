"""Where jobs.evaluate begins: finds a missing or damaged store before torch, MLflow and matplotlib are imported."""

from typing import TYPE_CHECKING

from gscnn_platform import cluster
from gscnn_platform.config import EvaluateConfig
from gscnn_platform.data.store import open_store

if TYPE_CHECKING:
    from gscnn_platform.reporting.job import Evaluation


def evaluate_checkpoint(config: EvaluateConfig) -> "Evaluation":
    """Counts one checkpoint, or two on the same frames, on a split; prints, writes and tracks the result.

    Raises:
        StoreError: the store is missing, damaged, or does not fit the model.
        CheckpointError, TrackingError: no such checkpoint or run.
    """
    open_store(cluster.resolve(config.store, "--store"))
    from gscnn_platform.reporting import job

    return job.evaluate_checkpoint(config)
