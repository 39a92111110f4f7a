"""Sends a journal to MLflow, in order. Sending an entry twice is harmless, so that a lost position costs nothing.

Two metric rows are equal if key, value, time and step are, and the journal has all four; files and tags are
overwritten; the model is found again by its id.
"""

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from fcntl import LOCK_EX, LOCK_UN, flock
from typing import Final

import mlflow
import yaml
from mlflow.entities import LifecycleStage, LoggedModelOutput, LoggedModelStatus, Metric, Run, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.store.db import utils as database
from sqlalchemy.exc import SQLAlchemyError

from gscnn_platform.names import metric_key, original_key, sqlite_path
from gscnn_platform.tracking.outbox.errors import TrackingError
from gscnn_platform.tracking.outbox.journal import Journal
from gscnn_platform.tracking.outbox.parts import ROWS, Entry, entries, parts, read_json, write_json
from gscnn_platform.tracking.refusals import check_credentials, refusal
from gscnn_platform.tracking.uri import check_listening

NOTE: Final = "mlflow.note.content"
"""Tag that the UI shows as a run's description, in Markdown."""
CHECKPOINT: Final = "checkpoint"
"""Artifact folder of the best checkpoint."""
EVALUATION: Final = "evaluation"
"""Artifact folder of evaluations, which the description links to."""
ENDS: Final = ("failure", "stopped")
"""Tags with the reason why a run ended early."""
MODEL_ID: Final = "gscnn.model"
"""Tag of a logged model by which it is found again."""
MOST_ROWS: Final = 1000
"""Maximum metric rows per MLflow request."""
REFUSED: Final = "INVALID_PARAMETER_VALUE"
"""Error code of what MLflow would refuse at every attempt; any other error may pass."""


def client_of(uri: str) -> mlflow.MlflowClient:
    """MLflow's client, with time limits where the environment sets none.

    Raises:
        OSError: nothing listens there.
        MlflowException: it does not work.
        TrackingError: the file of credentials is damaged.
    """
    check_credentials()
    # MLflow would wait 120 s and try seven times, the last after 64 s; here whoever calls tries again.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    # Runs and models of a local store need no links to a page that is not open.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # A bar for each of a dozen small files would bury what is printed.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # Both raise as well, and the outbox says it in one line: a locked SQLite file printed a traceback of 60.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    # It would try ten times, for 100 s, also where the file is no database or the password is wrong.
    database.MAX_RETRY_COUNT = 3
    check_listening(uri)
    try:
        with _alone(uri):
            return mlflow.MlflowClient(uri)
    except (ImportError, SQLAlchemyError) as error:  # A driver that is not installed, or what a database says.
        raise MlflowException(f"the database cannot be opened: {error}".splitlines()[0]) from error


class MLflowDelivery:
    """Delivers the entries of one journal. Any error means: try again later."""

    def __init__(self, journal: Journal) -> None:
        self.journal, self.run_id = journal, journal.run.run_id
        self._client: mlflow.MlflowClient | None = None
        self._start = 0
        self._steps: Mapping[str, int] = {}

    def some(self) -> bool:
        """Sends one request's worth of entries; returns whether there was anything to send."""
        try:
            return self._some()
        except BaseException as error:
            # The next attempt begins with a look at whether the server is there, in 5 s at most.
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
        """Highest step of each key before the outbox's first delivery: a run that resumes elsewhere repeats some."""
        file = self.journal.folder.parent / "steps.json"
        known = read_json(file)
        if known is not None:
            return known
        steps = {original_key(metric.key): metric.step for metric in run.data.to_proto().metrics}
        # Another part that was faster has delivered rows since, which are not to be left out here.
        write_json(file, steps, over=False)
        known = read_json(file)
        return steps if known is None else known

    def _rows(self, entry: Entry) -> list[Metric]:
        self.client()
        time = entry["time"]
        if entry["kind"] == "summary":
            return [Metric(metric_key(key), value, time, 0) for key, value in entry["values"].items()]
        if entry["kind"] == "system":
            step = (time - self._start) // 1000
            return [Metric(metric_key(key), value, time, step) for key, value in entry["values"].items()]
        return [
            Metric(metric_key(key), value, time, step)
            for step, values in entry["steps"]
            for key, value in values.items()
            if step > self._steps.get(key, -1)
        ]

    def _log(self, rows: list[Metric]) -> None:
        """Splits a rejected batch in halves until the row at fault is found."""
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
        """Raises an error that may be temporary, as for a run that was deleted and may be restored."""
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
        """Keeps the lines that evaluations have added to the description."""
        old = self.client().get_run(self.run_id).data.tags.get(NOTE, "")
        links = [line for line in old.split("\n\n") if f"get-artifact?path={EVALUATION}/" in line]
        self._tags({NOTE: "\n\n".join([text, *links])})

    def _files(self, kept: str, to: str) -> None:
        """A folder's content, or a file, into an artifact folder; what is gone was delivered before."""
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
            Metric(metric_key(key), value, entry["time"], 0, model.model_id) for key, value in entry["values"].items()
        ]
        client.log_batch(self.run_id, metrics=rows)
        # Not Model.load, which decodes %20 in the folder's name.
        described = Model.from_dict(yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8")))
        described.model_id = described.model_uuid = model.model_id
        described.run_id, described.artifact_path = self.run_id, model.artifact_location
        described.save(str(folder / "MLmodel"))
        client.log_model_artifacts(model.model_id, str(folder))
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)

    def _status(self, entry: Entry) -> None:
        """The run's status and, where it ended early, the reason; not if a later status is in the outbox already."""
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
    """No other process of this machine opens a SQLite store meanwhile: four that made the tables at once broke it."""
    file = sqlite_path(uri)
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with _opening, ExitStack() as stack:
        # A disk without locks, or a folder that is only read, is used all the same.
        with suppress(OSError):
            lock = stack.enter_context(file.with_name(f"{file.name}.lock").open("w", encoding="utf-8"))
            flock(lock, LOCK_EX)
            # Closing it would not do: a process forked meanwhile has it open as well.
            stack.callback(flock, lock, LOCK_UN)
        yield
