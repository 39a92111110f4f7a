"""Starts jobs.evaluate and jobs.compare: checks what can fail before torch and matplotlib are imported."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gscnn_platform import cluster, tracking
from gscnn_platform.config import EvaluateConfig
from gscnn_platform.data.store import open_store
from gscnn_platform.names import near_misses
from gscnn_platform.scores import SCORES, TRACKED_BY_CLASS

if TYPE_CHECKING:
    from gscnn_platform.comparison import Comparison
    from gscnn_platform.reporting.checkpoint_evaluation import Evaluation


def evaluate_checkpoint(config: EvaluateConfig) -> "Evaluation":
    """Evaluates one checkpoint, or two on the same frames, on a split; prints, writes and tracks the scores.

    Raises:
        StoreError: the store is missing or damaged, or does not match the model.
        CheckpointError, TrackingError: no such checkpoint or run.
    """
    open_store(cluster.resolve(config.store, "--store"))
    for reference in filter(None, (config.checkpoint, config.compare)):
        tracking.check_checkpoint(reference)
    from gscnn_platform.reporting import checkpoint_evaluation

    return checkpoint_evaluation.evaluate_checkpoint(config)


def compare_runs(
    references: Sequence[str], uri: str | None, metric: str, out: str, different_data: bool = False
) -> "Comparison":
    """Compares runs and sweeps: see gscnn_platform.reporting.tracked_runs.

    Raises:
        ValueError: no reference is given, or `metric` is not a validation score; the message suggests similar ones.
    """
    metric = tracking.key_of(metric)  # As MLflow shows it, too.
    if not references:
        raise ValueError("name the runs or sweeps to compare: MLflow run ids, run names or folders")
    by_class = [of_classes.tracked_as for of_classes in TRACKED_BY_CLASS]
    if not metric.startswith(("val/", *by_class)):
        known = [score.tracked_as for score in SCORES]
        raise ValueError(
            f"--metric {metric} is not a validation score{near_misses(metric, known)}\n"
            f"Scores are {', '.join(known)}, and of classes {', '.join(f'{prefix}CLASS' for prefix in by_class)}."
        )
    from gscnn_platform.reporting import tracked_runs

    return tracked_runs.compare_runs(references, uri, metric, out, different_data)
