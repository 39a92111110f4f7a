"""The MLflow run of an inspection: the page, its pictures and its numbers."""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from gscnn_platform.config import TrackingConfig
from gscnn_platform.names import metric_key
from gscnn_platform.provenance import origin_tags
from gscnn_platform.tracking.creating import experiment_of
from gscnn_platform.tracking.delivery import NOTE, client_of
from gscnn_platform.tracking.refusals import unusable
from gscnn_platform.tracking.uri import artifact_link

FOLDER: Final = "inspection"
"""Artifact folder of the page and, below it, of the pictures."""


def log_inspection(
    uri: str,
    tracking: TrackingConfig,
    name: str,
    params: Mapping[str, str],
    metrics: Mapping[str, float],
    note: str,
    files: Mapping[str, bytes],
) -> str:
    """Creates a run that holds an inspection; returns its id.

    Args:
        uri: of the tracking server or store.
        tracking: names the experiment.
        name: of the run.
        params: what was inspected.
        metrics: numbers of the data.
        note: the run's description, Markdown; a link to the page follows.
        files: path below the artifact folder -> content; one of them is the page, an .html file.

    Raises:
        TrackingError: the tracking URI does not answer.
        DeletedError: the experiment was deleted.
    """
    try:
        client = client_of(uri)
        run_id = client.create_run(experiment_of(client, uri, tracking), tags=origin_tags(), run_name=name).info.run_id
        now = int(time.time() * 1000)
        rows = [Metric(metric_key(key), value, now, 0) for key, value in metrics.items()]
        client.log_batch(run_id, params=[Param(key, value) for key, value in params.items()])
        for first in range(0, len(rows), 1000):  # MLflow takes at most 1000 per request.
            client.log_batch(run_id, metrics=rows[first : first + 1000])
        with tempfile.TemporaryDirectory() as folder:
            for file, content in files.items():
                place = Path(folder) / file
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)
            client.log_artifacts(run_id, folder, FOLDER)
        links = [artifact_link(run_id, f"{FOLDER}/{file}", "the page") for file in files if file.endswith(".html")]
        client.set_tag(run_id, NOTE, "\n\n".join([note, *links]))
        client.set_terminated(run_id)
        return run_id
    except (MlflowException, OSError) as error:
        raise unusable(uri, error) from error
