"""Detects runs that were deleted in MLflow when they resume, and restores or replaces them."""

import tempfile
from contextlib import suppress
from typing import Final, Literal

import mlflow
from mlflow.entities import LifecycleStage
from mlflow.exceptions import MlflowException

from gscnn_platform.config import OnDeleted
from gscnn_platform.runs.ref import RunRef
from gscnn_platform.tracking.delivery import client_of, in_time
from gscnn_platform.tracking.outbox.errors import TrackingError
from gscnn_platform.tracking.outbox.folders import give_to
from gscnn_platform.tracking.refusals import reason
from gscnn_platform.tracking.uri import check_database

REPLACES: Final = "gscnn.replaces"
"""Tag: id of the deleted MLflow run that this run replaces."""

Fate = Literal["active", "deleted", "gone", "unknown"]
"""`gone`: it cannot be restored. `unknown`: the server does not answer."""


class DeletedError(TrackingError):
    """The MLflow run, or its experiment, was deleted."""


def fate_of(uri: str, run_id: str) -> Fate:
    """Returns whether MLflow still has a run, active or deleted. Raises no errors."""
    fate: Fate | None = in_time(uri, lambda: _query_fate(uri, run_id))
    return "unknown" if fate is None else fate


def _query_fate(uri: str, run_id: str) -> Fate:
    try:
        check_database(uri)
    except FileNotFoundError:
        return "gone"
    client = client_of(uri)
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return "gone"
    return "active" if run.info.lifecycle_stage == LifecycleStage.ACTIVE else "deleted"


def needs_new_run(uri: str, run_id: str, on_deleted: OnDeleted) -> bool:
    """Returns whether a resuming run needs a new MLflow run because its own was deleted; restores its own if requested.

    Returns False if the server does not answer, so that the run can resume.

    Args:
        uri, run_id: of the run.
        on_deleted: what to do if it was deleted.

    Raises:
        DeletedError: it was deleted, and `on_deleted` is "error", or "restore" when nothing is left to restore.
    """
    fate = fate_of(uri, run_id)
    if fate in ("active", "unknown"):
        return False
    if on_deleted == "new":
        return True
    if on_deleted == "restore" and fate == "deleted":
        restore(uri, run_id)
        return False
    raise DeletedError(_deleted_message(uri, run_id, fate))


def _deleted_message(uri: str, run_id: str, fate: Fate) -> str:
    """Returns the error message: what is wrong, and what to type."""
    if fate == "gone":
        return (
            f"MLflow run {run_id} is not at {uri} and cannot be restored.\n"
            f"Track in a new MLflow run, which gets everything tracked before, with --tracking.on-deleted new."
        )
    return (
        f"MLflow run {run_id} at {uri} was deleted, alone or with its experiment.\n"
        "Restore it with --tracking.on-deleted restore, or track in a new MLflow run, which gets everything tracked "
        "before, with --tracking.on-deleted new."
    )


def restore(uri: str, run_id: str) -> None:
    """Restores a run, and its experiment if that was deleted too.

    Raises:
        DeletedError: the server rejects the request or does not answer.
    """
    try:
        client = client_of(uri)
        experiment = client.get_experiment(client.get_run(run_id).info.experiment_id)
        if experiment.lifecycle_stage == LifecycleStage.DELETED:
            client.restore_experiment(experiment.experiment_id)
        if client.get_run(run_id).info.lifecycle_stage == LifecycleStage.DELETED:
            client.restore_run(run_id)
    except (MlflowException, OSError) as error:
        raise DeletedError(f"MLflow run {run_id} at {uri} cannot be restored: {reason(error)}") from error


def start_time_of(uri: str, run_id: str) -> int | None:
    """Returns the start time of a run, in milliseconds since 1970; None if the run is gone."""
    with suppress(MlflowException, OSError):
        return client_of(uri).get_run(run_id).info.start_time
    return None


def move_to(run: RunRef, new: str) -> None:
    """Moves a run's outbox to another MLflow run: all entries are delivered to it again, and old files are copied.

    Args:
        run: the deleted run; there may be no outbox yet.
        new: id of the run that replaces it.
    """
    give_to(run, new)
    # The outbox no longer holds pictures that were delivered.
    with suppress(MlflowException, OSError), tempfile.TemporaryDirectory() as folder:
        _copy_artifacts(client_of(run.tracking_uri), run.run_id, new, folder)


def _copy_artifacts(client: mlflow.MlflowClient, old: str, new: str, folder: str) -> None:
    for top in client.list_artifacts(old):
        client.download_artifacts(old, top.path, folder)
    client.log_artifacts(new, folder)
