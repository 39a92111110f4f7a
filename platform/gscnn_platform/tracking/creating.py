"""Creates MLflow runs with everything that is known before the first step; a failed start leaves no run behind."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import mlflow
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Dataset, DatasetInput, InputTag, LifecycleStage, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from gscnn_platform.config import ExperimentConfig, TrackingConfig, flatten
from gscnn_platform.data.store import Store
from gscnn_platform.names import check_experiment, filter_pattern, sqlite_path
from gscnn_platform.provenance import package_versions, run_tags
from gscnn_platform.runs.folder import RunFolder
from gscnn_platform.tracking.deleted import DeletedError
from gscnn_platform.tracking.delivery import client_of
from gscnn_platform.tracking.reading import PARENT
from gscnn_platform.tracking.refusals import unusable

EXPERIMENT_TAGS: Final = {"mlflow.experimentKind": "custom_model_development"}
"""Says that the experiment is one of trainings. MLflow 3.17 decides by the link and the browser: see AS_TRAINING."""
FOLDER: Final = "gscnn.folder"
"""Tag: where the run's checkpoints are."""
INIT_DIGEST: Final = "init.sha256"
"""Tag: sha256 of the file of weights that the run started from."""
PACKAGES: Final = "packages.json"
"""Artifact: versions of Python and of all installed packages, where the run was created."""
MOST_PARAM: Final = 6000
"""Maximum length of a param's value in MLflow, in characters."""


def create_run(
    uri: str,
    config: ExperimentConfig,
    folder: RunFolder,
    store: Store,
    tags: Mapping[str, str],
    start_time: int | None = None,
    init: Mapping[str, Any] | None = None,
) -> str:
    """Creates the run with everything that is known before the first step; returns its id.

    Args:
        uri: of the tracking server or store.
        config: the config to train with.
        store: the data to train on.
        folder: of the run, which is named after it.
        tags: additional tags.
        start_time: milliseconds since 1970; None: now.
        init: the report of the weights that it starts from (gscnn_platform.runs.initial); None: of no file.

    Raises:
        TrackingError: the tracking URI does not answer.
        DeletedError: the experiment was deleted.
    """
    try:
        client = client_of(uri)
        # From the sweep's parent run: the experiment may have been renamed since the sweep began.
        experiment = (
            client.get_run(tags[PARENT]).info.experiment_id
            if PARENT in tags
            else experiment_of(client, uri, config.tracking)
        )
        of_init = {} if init is None else {INIT_DIGEST: init["sha256"]}
        all_tags = {**run_tags(config, store), FOLDER: str(folder), **of_init, **tags}
        params = flatten(config.model_dump())
        files = {
            "dataset/manifest.json": store.manifest.model_dump(mode="json"),
            "config.json": config.model_dump(mode="json"),
        }
        weights = store.class_weights(config.loss, config.data.train_split)
        if weights is not None:
            files["class_weights.json"] = dict(zip(store.manifest.identity.classes, weights.tolist(), strict=True))
        if init is not None:
            files["init.json"] = dict(init)
        return begin_run(client, experiment, folder.name, all_tags, params, store, files, start_time)
    except (MlflowException, OSError) as error:
        raise unusable(uri, error) from error


def begin_run(
    client: mlflow.MlflowClient,
    experiment: str,
    name: str,
    tags: Mapping[str, str],
    params: Mapping[str, Any],
    store: Store,
    files: Mapping[str, Any],
    start_time: int | None = None,
) -> str:
    """Creates a run with its tags, params, data and files, among them the installed packages; returns its id.

    If that fails, the run is deleted again.

    A running run of the same folder without metrics is reused: its driver was killed during the start.
    """
    texts = {key: str(value)[:MOST_PARAM] for key, value in params.items()}
    left = _left_by_a_kill(client, experiment, tags[FOLDER], texts)
    run_id = left or client.create_run(experiment, start_time, dict(tags), name).info.run_id
    try:
        if left:
            client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        _log_params(client, run_id, texts)
        dataset = Dataset(**_StoreDataset(store).to_dict())
        client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
        for file, content in {PACKAGES: package_versions(), **files}.items():
            client.log_dict(run_id, content, file)
    except BaseException:
        with suppress(MlflowException, OSError):
            client.delete_run(run_id)
        raise
    return run_id


def _left_by_a_kill(client: mlflow.MlflowClient, experiment: str, folder: str, params: Mapping[str, str]) -> str | None:
    wanted = f"attributes.status = 'RUNNING' and tags.`{FOLDER}` LIKE {filter_pattern(folder)}"

    def fits(run: Run) -> bool:
        # MLflow rejects a new value for a param that a run already has.
        same = run.data.tags[FOLDER] == folder and run.data.params.items() <= params.items()
        return same and not run.data.metrics

    return next((run.info.run_id for run in client.search_runs([experiment], wanted) if fits(run)), None)


def experiment_of(client: mlflow.MlflowClient, uri: str, tracking: TrackingConfig) -> str:
    """Returns the experiment's id. Creates it if it is missing, and restores it if `on_deleted` is "restore".

    Raises:
        DeletedError: it was deleted.
    """
    name = check_experiment(tracking.experiment, "--tracking.experiment")
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return client.create_experiment(name, _artifact_folder(uri), EXPERIMENT_TAGS)
        except MlflowException as error:
            # Another run may have created it in the meantime.
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise error
    if experiment.lifecycle_stage == LifecycleStage.DELETED:
        if tracking.on_deleted != "restore":
            raise DeletedError(
                f"MLflow experiment {name!r} at {uri} was deleted.\n"
                "Restore it and its runs with --tracking.on-deleted restore, or choose another one with "
                "--tracking.experiment."
            )
        client.restore_experiment(experiment.experiment_id)
    return experiment.experiment_id


def _log_params(client: mlflow.MlflowClient, run_id: str, params: Mapping[str, str]) -> None:
    listed = [Param(key, value) for key, value in params.items()]
    for first in range(0, len(listed), 100):  # MLflow takes at most 100 per request.
        client.log_batch(run_id, params=listed[first : first + 100])


class _StoreDataset(MetaDataset):
    """A store as an MLflow dataset: its fingerprint is the digest, its counts are the profile."""

    def __init__(self, store: Store) -> None:
        identity = store.manifest.identity
        self._profile = {
            "classes": len(identity.classes),
            "samples": {name: split.samples for name, split in store.manifest.splits.items()},
            "pixels": {
                name: dict(zip((*identity.classes, "void"), (*split.pixels, split.void_pixels), strict=True))
                for name, split in store.manifest.splits.items()
            },
        }
        command = store.manifest.command(store.path, identity.edges)
        source = CodeDatasetSource({"store": str(store.path), "command": command})
        super().__init__(source, name=identity.dataset, digest=store.manifest.fingerprint)

    @property
    def profile(self) -> dict[str, Any]:
        return self._profile

    def to_dict(self) -> dict[str, str]:
        return super().to_dict() | {"profile": json.dumps(self._profile)}


def _artifact_folder(uri: str) -> str | None:
    """Returns a folder beside a SQLite file, where MLflow would use the current folder; None: the server decides."""
    database = sqlite_path(uri)
    return None if database is None else (database.absolute().parent / "mlartifacts").as_uri()
