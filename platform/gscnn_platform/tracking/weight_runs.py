"""The MLflow run that stands for a file of weights: no run of ours trained it, and its scores on a store are compared.

It has the file's digest as a tag, the store as its data, and its validation scores at the epoch when training ended.
"""

import time
from collections.abc import Mapping
from typing import Final

from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from gscnn_platform.config import ExperimentConfig, TrackingConfig, flatten
from gscnn_platform.data.store import Store
from gscnn_platform.provenance import run_tags
from gscnn_platform.runs.loading import WeightFile
from gscnn_platform.tracking.creating import FOLDER, begin_run, experiment_of
from gscnn_platform.tracking.delivery import client_of
from gscnn_platform.tracking.keys import mlflow_key
from gscnn_platform.tracking.outbox.errors import TrackingError
from gscnn_platform.tracking.reading import reading, search
from gscnn_platform.tracking.refusals import unusable

DIGEST: Final = "weights.sha256"
KNOWN: Final = ("model.", "data.edges.", "data.val_", "training.epochs")
"""Beginnings of the settings that are known of a file; how it was trained is not."""


def run_of_file(
    uri: str,
    tracking: TrackingConfig,
    file: WeightFile,
    config: ExperimentConfig,
    store: Store,
    scores: Mapping[str, float],
) -> str:
    """The id of the run of a file on a store, which is created if there is none.

    Args:
        uri: of the tracking server or store.
        tracking: names the experiment.
        file: of weights.
        config: what is known of the file's model.
        store: that it is evaluated on.
        scores: `val/...` and `val_iou/...`, as a training has them of its validation; empty leaves those that it has.

    Raises:
        TrackingError: the tracking URI does not answer.
        DeletedError: the experiment was deleted.
    """
    try:
        client = client_of(uri)
        experiment = experiment_of(client, uri, tracking)
        fingerprint = store.manifest.fingerprint
        of_both = f"tags.`{DIGEST}` = '{file.sha256}' and tags.`dataset.fingerprint` = '{fingerprint}'"
        found = search(client, [experiment], of_both)
        if found:
            run_id = found[-1].info.run_id
        else:
            params = {key: value for key, value in flatten(config.model_dump()).items() if key.startswith(KNOWN)}
            tags = {**run_tags(config, store), FOLDER: file.location, DIGEST: file.sha256}
            name = f"{config.name}-{file.sha256[:8]}"
            run_id = begin_run(client, experiment, name, tags, params, store, {})
        now, epoch = int(time.time() * 1000), config.training.epochs
        client.log_batch(run_id, [Metric(mlflow_key(key), value, now, epoch) for key, value in scores.items()])
        client.set_terminated(run_id)
        return run_id
    except (MlflowException, OSError) as error:
        raise unusable(uri, error) from error


def find_run_of_file(uri: str, file: str, sha256: str) -> str:
    """The id of the newest run of a file.

    Args:
        uri: of the tracking server or store.
        file: as the user named it.
        sha256: of its content.

    Raises:
        TrackingError: it was not evaluated yet, or `uri` does not answer.
    """
    with reading(uri, f"the scores of {file}") as client:
        found = search(client, None, f"tags.`{DIGEST}` = '{sha256}'")
    if not found:
        raise TrackingError(
            f"{file} has no scores at {uri}: evaluate it first, with python -m jobs.evaluate --checkpoint {file} "
            "--store FOLDER"
        )
    return found[-1].info.run_id
