"""Sends a journal to MLflow, in order. Sending an entry twice changes nothing, so a lost position does no harm.

MLflow drops a metric row with the same key, value, time and step, and the journal stores all four. Files and tags are
overwritten, and the model is found by its id.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from fcntl import LOCK_EX, LOCK_UN, flock
from typing import Final, TypeVar

import mlflow
import yaml
from mlflow.entities import LifecycleStage, LoggedModelOutput, LoggedModelStatus, Metric, Run, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.store.db import utils as database
from sqlalchemy.exc import SQLAlchemyError

from gscnn_platform.names import metric_key, sqlite_path
from gscnn_platform.tracking.keys import key_of, mlflow_key
from gscnn_platform.tracking.outbox.errors import TrackingError
from gscnn_platform.tracking.outbox.journal import Journal
from gscnn_platform.tracking.outbox.parts import ROWS, Entry, entries, parts, read_json, write_json
from gscnn_platform.tracking.refusals import check_credentials, refusal
from gscnn_platform.tracking.uri import check_listening

T = TypeVar("T")

NOTE: Final = "mlflow.note.content"
"""Tag that the UI shows as a run's description, in Markdown."""
CHECKPOINT: Final = "checkpoint"
"""Artifact folder of the best checkpoint."""
EVALUATION: Final = "evaluation"
"""Artifact folder of evaluations; the run's description links to its pages."""
ENDS: Final = ("failure", "stopped")
"""Tags with the reason why a run ended early."""
MODEL_ID: Final = "gscnn.model"
"""Tag that identifies a logged model."""
QUERY_SECONDS: Final = 10.0
"""Maximum seconds to query a server: a hanging server must not keep a run from resuming or a job from ending."""
MOST_ROWS: Final = 1000
"""Maximum metric rows per MLflow request."""
REFUSED: Final = "INVALID_PARAMETER_VALUE"
"""MLflow's error code for requests that fail at every attempt; other errors may be temporary."""


def client_of(uri: str) -> mlflow.MlflowClient:
    """Returns MLflow's client, with time limits unless the environment sets them.

    Raises:
        OSError: nothing listens there.
        MlflowException: the store cannot be opened.
        TrackingError: the credentials file is damaged.
    """
    check_credentials()
    # MLflow would wait 120 s and try seven times, the last time after 64 s; here the caller retries.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    # With a local store, MLflow would print links to a UI that is not running.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # Progress bars of a dozen small files would hide other output.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # Both also raise the error, which the outbox reports in one line; a locked SQLite file logged 60 lines.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    # MLflow would try ten times, for 100 s, even if the file is not a database or the password is wrong.
    database.MAX_RETRY_COUNT = 3
    check_listening(uri)
    try:
        with _alone(uri):
            return mlflow.MlflowClient(uri)
    except (ImportError, SQLAlchemyError) as error:  # A missing database driver, or the database's own error.
        raise MlflowException(f"the database cannot be opened: {error}".splitlines()[0]) from error


def in_time(uri: str, query: Callable[[], T]) -> T | None:
    """Returns what a query of a tracking URI returns; None if it fails or a server does not answer in time."""
    found: list[T] = []

    def run() -> None:
        # Stores raise error classes of their own if a server's answer is unexpected.
        with suppress(Exception):
            found.append(query())

    thread = threading.Thread(target=run, name="query", daemon=True)
    thread.start()
    # The first query of a SQLite file creates tables: it may take seconds on a busy machine, but it never hangs.
    thread.join(None if sqlite_path(uri) else QUERY_SECONDS)
    return found[0] if found else None


class MLflowDelivery:
    """Delivers the entries of one journal. After any error the caller retries later."""

    def __init__(self, journal: Journal) -> None:
        self.journal, self.run_id = journal, journal.run.run_id
        self._client: mlflow.MlflowClient | None = None
        self._start = 0
        self._steps: Mapping[str, int] = {}

    def some(self) -> bool:
        """Sends the entries that fit into one request; returns whether there were any."""
        try:
            return self._some()
        except BaseException as error:
            # So that the next attempt first checks, within 5 s, whether the server is reachable.
            self._client = None
            refused = refusal(error) if isinstance(error, Exception) else None
            if refused:
                raise TrackingError(refused) from error
            raise

    def _some(self) -> bool:
        rows: list[Metric] = []
        end = None
        for entry, position in self.journal.pending():
            if entry is not None and entry["kind"] in ROWS:
                more = self._rows(entry)
                if rows and len(rows) + len(more) > MOST_ROWS:
                    break
                rows += more
            elif end is None:
                self._send(entry)
                self.journal.mark_delivered(position)
                self._drop(entry)
                return True
            else:
                break
            end = position
        if end is None:
            return False
        for first in range(0, len(rows), MOST_ROWS):
            self._log(rows[first : first + MOST_ROWS])
        self.journal.mark_delivered(end)
        return True

    def client(self) -> mlflow.MlflowClient:
        if self._client is None:
            client = client_of(self.journal.run.tracking_uri)
            run = client.get_run(self.run_id)
            self._start = run.info.start_time
            self._steps = self._steps_before(run)
            self._client = client
        return self._client

    def _steps_before(self, run: Run) -> Mapping[str, int]:
        """Returns the highest step per key before the outbox's first delivery: a resumed run may repeat steps."""
        file = self.journal.folder.parent / "steps.json"
        known = read_json(file)
        if known is not None:
            return known
        steps = {key_of(metric.key): metric.step for metric in run.data.to_proto().metrics}
        # If another part wrote the file first, its steps apply: rows that it delivered since must not be skipped.
        write_json(file, steps, over=False)
        known = read_json(file)
        return steps if known is None else known

    def _rows(self, entry: Entry) -> list[Metric]:
        self.client()
        time = entry["time"]
        if entry["kind"] == "summary":
            return [Metric(mlflow_key(key), value, time, 0) for key, value in entry["values"].items()]
        if entry["kind"] == "system":
            step = (time - self._start) // 1000
            return [Metric(mlflow_key(key), value, time, step) for key, value in entry["values"].items()]
        return [
            Metric(mlflow_key(key), value, time, step)
            for step, values in entry["steps"]
            for key, value in values.items()
            if step > self._steps.get(key, -1)
        ]

    def _log(self, rows: list[Metric]) -> None:
        """Logs metric rows; halves a rejected batch until the invalid row is found."""
        try:
            self.client().log_batch(self.run_id, metrics=rows)
        except MlflowException as error:
            self._check_refused(error)
            if len(rows) == 1:
                self.journal.refuse({"kind": "metric", **rows[0].to_dictionary()}, error.message)
                return
            middle = len(rows) // 2
            self._log(rows[:middle])
            self._log(rows[middle:])

    def _check_refused(self, error: MlflowException) -> None:
        """Raises an error that may be temporary, such as that of a deleted run, which may be restored."""
        if error.error_code != REFUSED:
            raise error
        if self.client().get_run(self.run_id).info.lifecycle_stage != LifecycleStage.ACTIVE:
            raise TrackingError(f"MLflow run {self.run_id} was deleted: restore it in the MLflow UI") from error

    def _send(self, entry: Entry | None) -> None:
        if entry is None:
            self.journal.refuse(None, "the journal's line is damaged")
            return
        try:
            match entry["kind"]:
                case "tags":
                    self._tags(entry["tags"])
                case "note":
                    self._note(entry["text"])
                case "artifact":
                    self._files(entry["kept"], entry["to"])
                case "model":
                    self._model(entry)
                case "status":
                    self._status(entry)
                case unknown:
                    self.journal.refuse(entry, f"this version knows no entries of kind {unknown!r}")
        except MlflowException as error:
            self._check_refused(error)
            self.journal.refuse(entry, error.message)

    def _drop(self, entry: Entry | None) -> None:
        if entry is not None and "kept" in entry:
            self.journal.drop(entry["kept"])

    def _tags(self, tags: Mapping[str, str]) -> None:
        self.client().log_batch(self.run_id, tags=[RunTag(metric_key(key), value) for key, value in tags.items()])

    def _note(self, text: str) -> None:
        """Sets the run's description; keeps the lines that evaluations have added to it."""
        old = self.client().get_run(self.run_id).data.tags.get(NOTE, "")
        links = [line for line in old.split("\n\n") if f"get-artifact?path={EVALUATION}/" in line]
        self._tags({NOTE: "\n\n".join([text, *links])})

    def _files(self, kept: str, to: str) -> None:
        """Uploads a folder's content, or a file, to an artifact folder; a missing one was delivered before."""
        path = self.journal.folder / kept
        if path.is_dir():
            self.client().log_artifacts(self.run_id, str(path), to)
        elif path.exists():
            self.client().log_artifact(self.run_id, str(path), to)

    def _model(self, entry: Entry) -> None:
        """Logs a saved model with its metrics, or continues an interrupted attempt."""
        folder, client = self.journal.folder / entry["kept"], self.client()
        run = client.get_run(self.run_id)
        experiment, wanted = run.info.experiment_id, f"tags.`{MODEL_ID}` = '{entry['id']}'"
        found = client.search_logged_models([experiment], wanted)
        if not folder.exists() or (found and found[0].status == LoggedModelStatus.READY):
            return
        model = (
            found[0]
            if found
            else client.create_logged_model(
                experiment, "model", self.run_id, tags={MODEL_ID: entry["id"]}, params=run.data.params
            )
        )
        if model.model_id not in [output.model_id for output in (run.outputs.model_outputs if run.outputs else [])]:
            client.log_outputs(self.run_id, [LoggedModelOutput(model.model_id, step=0)])
        rows = [
            Metric(mlflow_key(key), value, entry["time"], 0, model.model_id) for key, value in entry["values"].items()
        ]
        client.log_batch(self.run_id, metrics=rows)
        # Not with Model.load, which decodes %20 in the folder's name.
        described = Model.from_dict(yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8")))
        described.model_id = described.model_uuid = model.model_id
        described.run_id, described.artifact_path = self.run_id, model.artifact_location
        described.save(str(folder / "MLmodel"))
        client.log_model_artifacts(model.model_id, str(folder))
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)

    def _status(self, entry: Entry) -> None:
        """Sets the run's status and the reason for an early end, unless the outbox holds a later status."""
        outbox, client = self.journal.folder.parent, self.client()
        if any(other["time"] > entry["time"] for part in parts(outbox) for other in entries(part, "status")):
            return
        there = client.get_run(self.run_id).data.tags
        for tag in ENDS:
            if tag in there and tag not in entry["tags"]:
                client.delete_tag(self.run_id, tag)
        self._tags(entry["tags"])
        if entry["status"] == RunStatus.to_string(RunStatus.RUNNING):
            client.update_run(self.run_id, entry["status"])
        else:
            client.set_terminated(self.run_id, entry["status"], entry["time"])


_opening = threading.Lock()


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Locks a SQLite store on this machine: four processes that created its tables at once corrupted it."""
    file = sqlite_path(uri)
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with _opening, ExitStack() as stack:
        # File systems without locks and read-only folders are used without the lock.
        with suppress(OSError):
            lock = stack.enter_context(file.with_name(f"{file.name}.lock").open("w", encoding="utf-8"))
            flock(lock, LOCK_EX)
            # Closing the file is not enough: a process forked in the meantime has it open as well.
            stack.callback(flock, lock, LOCK_UN)
        yield
