"""Reads runs from MLflow for comparisons, without checkpoints, stores or the run's machine."""

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from gscnn_platform.names import MOST_KEY, filter_pattern, metric_key
from gscnn_platform.tracking.delivery import client_of, in_time
from gscnn_platform.tracking.description import PICTURES
from gscnn_platform.tracking.keys import key_of, mlflow_key
from gscnn_platform.tracking.outbox.errors import TrackingError
from gscnn_platform.tracking.refusals import reason
from gscnn_platform.tracking.uri import WITH_SERVER, check_database, check_no_password, run_page, ui_command

SWEEP: Final = "gscnn.sweep"
"""Tag of a sweep's parent run: the name of its search space."""
PARENT: Final = "mlflow.parentRunId"
"""Tag of a trial: the run id of its sweep. The UI groups by it."""
PAGE: Final = 500
"""Runs per request."""
READERS: Final = 4
"""Runs whose histories are read in parallel: with a distant server, one request per metric adds up to a minute."""


@dataclass(frozen=True)
class TrackedRun:
    """A training run, or the parent run of a sweep, as it was when it was read."""

    uri: str = field(repr=False)
    """Tracking URI that it was read from; show `place` instead."""
    run_id: str
    experiment_id: str
    name: str
    status: str
    """MLflow's: RUNNING, SCHEDULED, FINISHED, FAILED or KILLED."""
    started: datetime
    ended: datetime | None
    params: Mapping[str, str] = field(default_factory=dict)
    """Dotted config key -> value, as text."""
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Last value of every metric."""
    curves: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    """Metric -> step or epoch -> value, in order; only of the requested metrics."""
    dataset: str | None = None
    fingerprint: str | None = None
    """Fingerprint of the store; None if the run has no dataset input."""
    profile: Mapping[str, Any] = field(default_factory=dict)
    """The store's counts: "samples" by split, and "pixels" by split and class."""

    @property
    def validated_on(self) -> str:
        """The validation split, or the share of the training split that was held out."""
        if float(self.params.get("data.val_share", 0)):
            chosen = ", ".join(f"{key} {self.params.get(f'data.{key}')}" for key in ("val_share", "val_seed"))
            return f"{self.params.get('data.train_split')} ({chosen})"
        return self.params.get("data.val_split", "unknown")

    @property
    def place(self) -> str:
        """The tracking URI without user and password: it goes into pages that are passed on."""
        return _shown(self.uri)

    @property
    def link(self) -> str:
        """The run's charts in the MLflow UI; for a store without a server, those of `mlflow ui`."""
        return run_page(self.place, self.experiment_id, self.run_id)

    def __str__(self) -> str:
        return f"{self.name} ({self.run_id})"


def find_run(uri: str, reference: str) -> str:
    """Returns the id of the run that a user names by its id or by a unique name.

    Raises:
        TrackingError: no run has this id or name, several have the name, or `uri` does not answer.
    """
    with reading(uri, f"run {reference}") as client:
        try:
            return client.get_run(reference).info.run_id
        except MlflowException as error:
            # A server with authentication returns PERMISSION_DENIED for any id that does not exist.
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "PERMISSION_DENIED"):
                raise
        alike = search(client, None, f"attributes.run_name LIKE {filter_pattern(reference)}")
        found = [run for run in alike if run.info.run_name == reference]
    if len(found) == 1:
        return found[0].info.run_id
    if found:
        ids = ", ".join(f"{run.info.run_id} of {_time(run.info.start_time):%Y-%m-%d %H:%M} UTC" for run in found)
        raise TrackingError(f"{len(found)} runs at {_shown(uri)} are named {reference!r}: choose one by its id: {ids}")
    raise TrackingError(
        f"no run at {_shown(uri)} has the id or the name {reference!r}: look for it in the MLflow UI, or pass another "
        "tracking URI with --uri or MLFLOW_TRACKING_URI"
    )


def look_at(uri: str, run_id: str, indent: int = 0, charts: bool = True) -> str:
    """Returns how a user sees a run: its page in the MLflow UI, below the command that serves a store without a server.

    Args:
        uri, run_id: of the run.
        indent: columns before the second line.
        charts: whether the page is that of the run's charts, and not of its description.

    The page is left out if MLflow does not say in time which experiment the run is in.
    """
    run = in_time(uri, lambda: client_of(uri).get_run(run_id))
    page = None if run is None else run_page(_shown(uri), run.info.experiment_id, run_id, charts)
    if uri.startswith(WITH_SERVER):
        return page or ui_command(uri)
    return ui_command(uri) if page is None else f"{ui_command(uri)}\n{'':{indent}}then open {page}"


def read_run(uri: str, run_id: str, curves: re.Pattern[str] | None = None) -> TrackedRun:
    """Returns a run.

    Args:
        uri, run_id: of the run.
        curves: histories are read of the metrics whose whole names match; None reads none.

    Raises:
        TrackingError: there is no such run, or `uri` does not answer.
    """
    with reading(uri, f"run {run_id}") as client:
        return _tracked(client, uri, client.get_run(run_id), curves)


def children(uri: str, run_id: str, curves: re.Pattern[str] | None = None) -> list[TrackedRun]:
    """Returns the trials of a sweep in the order in which they started, without deleted ones.

    Args:
        uri, run_id: of the sweep's parent run.
        curves: as in `read_run`.

    Raises:
        TrackingError: there is no such run, or `uri` does not answer.
    """
    with reading(uri, f"sweep {run_id}") as client, ThreadPoolExecutor(READERS) as pool:
        experiment = client.get_run(run_id).info.experiment_id
        found = search(client, [experiment], f"tags.`{PARENT}` = '{run_id}'")
        return list(pool.map(lambda run: _tracked(client, uri, run, curves), found))


def picture(uri: str, run_id: str, epoch: int | None) -> tuple[int, bytes] | None:
    """Returns the picture of a run's validation scenes at an epoch, or the last picture if the epoch has none.

    Returns:
        Its epoch and the PNG file's bytes; None if the run has no picture.

    Raises:
        TrackingError: there is no such run, or `uri` does not answer.
    """
    with reading(uri, f"pictures of run {run_id}") as client, tempfile.TemporaryDirectory() as folder:
        there = {
            int(match[1]): file.path
            for file in client.list_artifacts(run_id, PICTURES)
            if (match := re.search(r"/epoch-(\d+)\.png$", file.path))
        }
        if not there:
            return None
        chosen = epoch if epoch in there else max(there)
        return chosen, Path(client.download_artifacts(run_id, there[chosen], folder)).read_bytes()


@contextmanager
def reading(uri: str, what: str) -> Iterator[mlflow.MlflowClient]:
    """A client for the block, which reads `what`. Raises TrackingError where that fails."""
    check_no_password(uri, "the tracking URI (--uri or that of the run's folder)")
    try:
        check_database(uri)
        yield client_of(uri)
    except (MlflowException, OSError) as error:
        raise TrackingError(
            f"{what} cannot be read at {_shown(uri)}: {reason(error)}; pass another tracking URI with --uri or "
            "MLFLOW_TRACKING_URI"
        ) from error


def search(client: mlflow.MlflowClient, experiments: list[str] | None, wanted: str) -> list[Run]:
    """The runs that a filter of MLflow's finds, in the order of their starts; in all experiments for None."""
    if experiments is None:
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found, token = [], None
    while True:
        page = client.search_runs(
            experiments, wanted, max_results=PAGE, order_by=["attributes.start_time ASC"], page_token=token
        )
        found += page
        token = page.token
        if not token:
            return found


def _tracked(client: mlflow.MlflowClient, uri: str, run: Run, curves: re.Pattern[str] | None) -> TrackedRun:
    info, data = run.info, run.data
    inputs = run.inputs.dataset_inputs if run.inputs else []
    dataset = inputs[0].dataset if inputs else None
    profile = json.loads(dataset.profile) if dataset and dataset.profile else {}
    # MLflow's keys by ours. A run that an earlier version began and this one resumed has two for some of ours: the one
    # that this version writes comes last.
    ours: dict[str, list[str]] = {}
    for key in data.metrics:
        ours.setdefault(_ours(key, profile), []).append(key)
    for name, keys in ours.items():
        keys.sort(key=mlflow_key(name).__eq__)
    wanted = {name: keys for name, keys in ours.items() if curves is not None and curves.fullmatch(name)}
    return TrackedRun(
        uri=uri,
        run_id=info.run_id,
        experiment_id=info.experiment_id,
        name=info.run_name or info.run_id,
        status=info.status,
        started=_time(info.start_time),
        ended=_time(info.end_time) if info.end_time else None,
        params=data.params,
        tags=data.tags,
        metrics={name: data.metrics[keys[-1]] for name, keys in ours.items()},
        curves={name: _curve(client, info.run_id, keys) for name, keys in wanted.items()},
        dataset=dataset.name if dataset else None,
        fingerprint=dataset.digest if dataset else None,
        profile=profile,
    )


def _ours(key: str, profile: Mapping[str, Any]) -> str:
    """Returns our key of a metric; one that MLflow's limit shortened is found by the classes of the data."""
    if len(key) == MOST_KEY:
        prefix = key.partition("/")[0]
        for of_split in profile.get("pixels", {}).values():
            for name in of_split:
                if metric_key(f"{prefix}/{name}") == key:
                    return f"{prefix}/{name}"
    return key_of(key)


def _curve(client: mlflow.MlflowClient, run_id: str, keys: Sequence[str]) -> dict[int, float]:
    rows = [row for key in keys for row in client.get_metric_history(run_id, key)]
    return {row.step: row.value for row in sorted(rows, key=lambda row: (row.step, row.timestamp))}


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _shown(uri: str) -> str:
    """Returns the URI without user and password."""
    if "@" not in uri or "@" not in (address := urlsplit(uri)).netloc:
        return uri
    return address._replace(netloc=address.netloc.rpartition("@")[2]).geturl()
