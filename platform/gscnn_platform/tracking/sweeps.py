"""Tracks sweeps in MLflow: the parent run, the tags that link its trials, and the best trial's registered model."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mlflow.exceptions import MlflowException

from gscnn_platform.config import ExperimentConfig, flatten
from gscnn_platform.data.store import Store
from gscnn_platform.names import metric_key
from gscnn_platform.provenance import run_tags
from gscnn_platform.runs.folder import RunFolder
from gscnn_platform.tracking.creating import FOLDER, begin_run, experiment_of
from gscnn_platform.tracking.delivery import client_of
from gscnn_platform.tracking.outbox.errors import TrackingError
from gscnn_platform.tracking.reading import PARENT, SWEEP
from gscnn_platform.tracking.refusals import reason, unusable
from gscnn_platform.tracking.uri import MODELS, check_database

OVERRIDES: Final = "gscnn.overrides"
"""Tag of a trial: the settings that the sweep chose, as JSON."""
VARIANT: Final = "gscnn.variant"
"""Tag of a trial: the name of its variant."""
VARIANTS: Final = "gscnn.variants"
"""Tag of a sweep's parent run: its variants in the order of the search space, as a JSON list."""
ALIAS: Final = "best"
"""Alias of the registered model's newest version."""


def create_sweep(
    uri: str,
    config: ExperimentConfig,
    folder: RunFolder,
    store: Store,
    space_name: str,
    variants: Sequence[str],
    settings: Mapping[str, Any],
    start_time: int | None = None,
) -> str:
    """Creates a sweep's parent run; returns its id.

    Args:
        uri: of the tracking server or store.
        config: the settings of every trial.
        store: the data of every trial.
        folder: of the sweep; the parent run is named after it.
        space_name: of the search space.
        variants: names of the space's variants, in order.
        settings: of the sweep; logged as params next to those of `config`.
        start_time: milliseconds since 1970; None: now.

    Raises:
        TrackingError: the tracking URI does not answer.
        DeletedError: the experiment was deleted.
    """
    try:
        client = client_of(uri)
        tags = {**run_tags(config, store), FOLDER: str(folder), SWEEP: space_name, VARIANTS: json.dumps(list(variants))}
        params = {**flatten(config.model_dump()), **{f"sweep.{key}": value for key, value in settings.items()}}
        experiment = experiment_of(client, uri, config.tracking)
        return begin_run(client, experiment, folder.name, tags, params, store, {}, start_time)
    except (MlflowException, OSError) as error:
        raise unusable(uri, error) from error


def trial_tags(parent: str, space_name: str, overrides: Mapping[str, Any], variant: str | None) -> dict[str, str]:
    """Returns the tags that link a trial to its sweep and record the settings that the sweep chose."""
    tags = {PARENT: parent, "gscnn.space": space_name, OVERRIDES: json.dumps(overrides)}
    return tags if variant is None else {**tags, VARIANT: variant}


def set_tags(uri: str, run_id: str, tags: Mapping[str, str]) -> None:
    """Sets tags of a run.

    Raises:
        TrackingError: the tracking URI does not answer.
    """
    try:
        client = client_of(uri)
        for key, value in tags.items():
            client.set_tag(run_id, key, value)
    except (MlflowException, OSError) as error:
        raise TrackingError(f"run {run_id} at {uri}: {reason(error)}") from error


def register(uri: str, name: str, run_id: str, metrics: Mapping[str, float], fingerprint: str) -> str:
    """Registers the model of a run under `name` and sets the alias `best` to the new version; returns the version.

    Args:
        uri: of the tracking server or store, which also holds the registry.
        name: of the registered model.
        run_id: of the run; its model must have been delivered.
        metrics: set as tags of the version.
        fingerprint: of the data.

    Raises:
        TrackingError: the run has no model, or the server does not answer.
    """
    try:
        client = client_of(uri)
        outputs = client.get_run(run_id).outputs
        if outputs is None or not outputs.model_outputs:
            raise TrackingError(f"run {run_id} at {uri} has no model yet: deliver it with jobs.sync-tracking")
        try:
            client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            client.create_registered_model(name, description="Gated-SCNN: best trials of sweeps")
        model_id = outputs.model_outputs[-1].model_id
        tags = {"dataset.fingerprint": fingerprint, **{key: f"{value:.6g}" for key, value in metrics.items()}}
        # Tags of model versions are part of URLs in MLflow, where a slash is not allowed.
        tags = {metric_key(key).replace("/", "."): value for key, value in tags.items()}
        # By its location: MLflow resolves models:/ID with the process's default tracking URI, not with this one.
        source = client.get_logged_model(model_id).artifact_location
        made = client.create_model_version(name, source, run_id=run_id, tags=tags, model_id=model_id)
        version = str(made.version)
        client.set_registered_model_alias(name, ALIAS, version)
    except (MlflowException, OSError) as error:
        raise TrackingError(f"registering {name!r} at {uri}: {reason(error)}") from error
    return version


def run_of_model(uri: str, reference: str) -> str:
    """Returns the run that trained a registered model, `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    Raises:
        TrackingError: there is no such model, or the server does not answer.
    """
    path = reference.removeprefix(MODELS)
    try:
        check_database(uri)
        client = client_of(uri)
        if "@" in path:
            name, _, alias = path.rpartition("@")
            found = client.get_model_version_by_alias(name, alias)
        else:
            name, _, version = path.rpartition("/")
            found = client.get_model_version(name, version)
    except (MlflowException, OSError) as error:
        raise TrackingError(
            f"{reference} at {uri}: {reason(error)}; write models:/NAME@ALIAS or models:/NAME/VERSION"
        ) from error
    if not found.run_id:
        raise TrackingError(f"{reference} at {uri} was registered without its run: pass a run or a checkpoint instead")
    return found.run_id
