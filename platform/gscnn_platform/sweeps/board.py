"""Reports the results of a sweep's trials, during and after it: a table on disk, figures and links in MLflow."""

import csv
import io
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

from PIL import Image
from ray import tune

from gscnn_platform import tracking
from gscnn_platform.config import Config
from gscnn_platform.interrupts import TrainingStoppedError
from gscnn_platform.names import markdown
from gscnn_platform.runs.folder import LOG, TRIALS, RunFolder, step_of
from gscnn_platform.runs.loading import metrics_of
from gscnn_platform.runs.record import RunRecord
from gscnn_platform.runs.ref import RunRef
from gscnn_platform.scores import score_of
from gscnn_platform.sweeps.figures import TrialPoint, draw_sweep
from gscnn_platform.sweeps.record import SweepRecord
from gscnn_platform.sweeps.searchers import EPOCH, NUMBER, SCORE, number_of
from gscnn_platform.sweeps.space import SearchSpace
from gscnn_platform.sweeps.trial import trial_name
from gscnn_platform.tracking import Outbox, TrackingError, open_outbox
from gscnn_platform.training.progress import duration, say
from gscnn_platform.training.trainer import log_best

ARTIFACTS: Final = "sweep"
"""Artifact folder in the parent run."""
QUIET_SECONDS: Final = 60.0
"""Seconds without a line after which a sweep prints how far its running trials are."""
MOST_TOLD: Final = 4
"""Trials in that line."""
PROGRESS: Final = re.compile(r"^epoch +(\d+/\d+) .* · ([^·\n]+ left)$", re.MULTILINE)
"""A progress line in a trial's log: its epoch, and the time left."""


class TrialRow(Config):
    """The state of one trial of a sweep."""

    number: int
    sampled: dict[str, Any]
    """Searched key -> value at the last epoch; PBT changes values during a trial."""
    state: Literal["running", "finished", "stopped", "diverged", "failed"] = "running"
    """`stopped`: by the scheduler, before the last epoch."""
    score: float | None = None
    """Highest score so far."""
    epochs: int = 0
    first_step: float | None = None
    """Seconds from the start of the sweep to the trial's first step."""
    seconds: float = 0.0
    """Seconds from the start of the sweep to the trial's last validation or its end."""
    changes: tuple[tuple[int, dict[str, Any]], ...] = ()
    """Epoch and new settings of each change by PBT."""
    run_id: str | None = None
    """MLflow run id."""

    @property
    def name(self) -> str:
        return trial_name(self.number)


class Board:
    """Keeps the table of the trials, prints each change, and draws the sweep.

    Args:
        folder: of the sweep.
        record: of the sweep.
        space: the search space.
        count: total number of trials.
        meanwhile: called in each iteration of Tune's loop.
    """

    def __init__(
        self,
        folder: RunFolder,
        record: SweepRecord,
        space: SearchSpace,
        count: int,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder, self.record, self.space, self.count = folder, record, space, count
        self.meanwhile = meanwhile
        self.epochs = record.config.recipe.training.epochs
        self.run = folder.ref(record)
        self._rows: dict[int, TrialRow] = {}
        self._diverged: set[int] = set()
        try:
            for data in folder.read_json(TRIALS)["trials"]:
                row = TrialRow.model_validate(data)
                self._rows[row.number] = row
        except FileNotFoundError:
            pass
        self._before = {row.number for row in self._rows.values() if row.state == "running"}
        """Trials that an earlier process of the sweep did not end."""
        self._spoke = time.monotonic()

    @contextmanager
    def open(self) -> Iterator[None]:
        """Follows Tune's trials while open, and sets the status of the parent run in MLflow at the end."""
        global _open
        _open = self
        tracking.reopen_run(self.run)
        failure: str | None = None
        stopped: str | None = None
        try:
            yield
        except BaseException as error:
            if isinstance(error, TrainingStoppedError | KeyboardInterrupt):
                stopped = str(error) or "interrupted"
            else:
                failure = f"{type(error).__name__}: {error}"
            raise
        finally:
            _open = None
            left = tracking.close_run(self.run, failure, stopped, say=say)
            if left:
                self._say(f"tracking: {left}")

    def rows(self) -> list[TrialRow]:
        """Returns a row per trial, in the order in which the trials started."""
        return [self._rows[number] for number in sorted(self._rows)]

    def best(self) -> TrialRow | None:
        """Returns the best of the trials that have a score and did not diverge; None if there is none."""
        scored = [row for row in self.rows() if row.score is not None and row.state != "diverged"]
        return max(scored, key=lambda row: row.score or 0.0, default=None)

    @property
    def ended(self) -> int:
        return sum(row.state != "running" for row in self._rows.values())

    def complete(self) -> bool:
        """Returns whether all trials have ended, including those that the scheduler stopped."""
        return self.ended == self.count

    def began(self, sampled: Mapping[str, Any]) -> None:
        """Records that a trial has started or restarted."""
        number = sampled[NUMBER]
        settings = _settings(sampled)
        known = self._rows.get(number)
        self._put(known.model_copy(update={"state": "running"}) if known else TrialRow(number=number, sampled=settings))
        if known is None:
            self._say(f"{trial_name(number)} begins · {_described(settings)}")
        elif number in self._before:
            self._before.remove(number)
            steps = self.folder.trial(known.name).steps()
            place = f"resumes after step {step_of(steps[0])}" if steps else "starts again, it has no checkpoint yet"
            self._say(f"{known.name} {place} · {_described(settings)}")

    def validated(self, sampled: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Records a trial's score after an epoch."""
        row = self._row(sampled)
        settings = _settings(sampled)
        changes = row.changes if settings == row.sampled else (*row.changes, (row.epochs, settings))
        best_before = self.best()
        row = row.model_copy(
            update={
                "sampled": settings,
                "changes": changes,
                "score": result[SCORE],
                "epochs": result[EPOCH],
                "first_step": row.first_step or result.get("began", time.time()) - self.record.began,
                "seconds": time.time() - self.record.began,
            }
        )
        self._put(row)
        if result.get("diverged"):
            self._diverged.add(row.number)
        if result.get("done"):
            return
        best = self.best()
        mark = " · best so far" if best == row and (best_before is None or row.score != best_before.score) else ""
        self._say(f"{row.name} · epoch {row.epochs}/{self.epochs} · {self.record.config.metric} {row.score:.4f}{mark}")

    def finished(self, sampled: Mapping[str, Any], failed: bool = False) -> None:
        """Records that a trial has ended, by itself, by the scheduler or with an error that no restart fixed."""
        row = self._row(sampled)
        state = "finished" if row.epochs >= self.epochs else "stopped"
        if failed or row.number in self._diverged:
            state = "failed" if failed else "diverged"
        row = row.model_copy(update={"state": state, "seconds": time.time() - self.record.began})
        self._put(row)
        best = self.best()
        score = "no score" if row.score is None else f"{self.record.config.metric} {row.score:.4f}"
        so_far = "" if best is None else f" · best {best.name} {best.score:.4f}"
        left = row.seconds / self.ended * (self.count - self.ended)
        self._say(
            f"{row.name} {state} after epoch {row.epochs} · {score} · {self.ended} of {self.count} trials"
            f"{so_far} · {duration(left)} left"
        )
        if best is not None and best.score is not None:
            with self._parent() as outbox:
                key = f"best/{self.record.config.metric}"
                outbox.metrics([(self.ended, {key: best.score, "sweep/minutes": row.seconds / 60})])

    def step(self) -> None:
        """Called in each iteration of Tune's loop; after QUIET_SECONDS, prints the epochs of the running trials."""
        self.meanwhile()
        if time.monotonic() - self._spoke < QUIET_SECONDS:
            return
        self._spoke = time.monotonic()  # Also without a line, as the logs are read only once a minute.
        running = [row for row in self.rows() if row.state == "running"]
        told = [f"{row.name} epoch {place}" for row in running[:MOST_TOLD] if (place := self._place(row))]
        if told:
            more = f" · and {len(running) - MOST_TOLD} more" if len(running) > MOST_TOLD else ""
            self._say(" · ".join(told) + more)

    def _place(self, row: TrialRow) -> str | None:
        """Returns the epoch and the time left by the trial's log; None without a log, as in a remote folder."""
        log = self.folder.trial(row.name).path / LOG
        lines = PROGRESS.findall(log.read_text(encoding="utf-8")) if isinstance(log, Path) and log.exists() else []
        return ", ".join(lines[-1]) if lines else None

    def _say(self, line: str) -> None:
        self._spoke = time.monotonic()
        say(line)

    def _row(self, sampled: Mapping[str, Any]) -> TrialRow:
        return self._rows.get(sampled[NUMBER]) or TrialRow(number=sampled[NUMBER], sampled=_settings(sampled))

    def _put(self, row: TrialRow) -> None:
        record = self.folder.trial(row.name).read(RunRecord)
        self._rows[row.number] = row.model_copy(update={"run_id": record.run_id if record else row.run_id})
        self.folder.write_json(TRIALS, {"trials": [each.model_dump(mode="json") for each in self.rows()]})

    @contextmanager
    def _parent(self) -> Iterator[Outbox]:
        outbox = open_outbox(self.run).start()
        try:
            yield outbox
        finally:
            outbox.close(patience=5, limit=5)

    def close_open_runs(self, reason: str) -> None:
        """Marks the runs of the trials that the end of the sweep interrupted as stopped, in MLflow too."""
        for row in self.rows():
            folder = self.folder.trial(row.name)
            record = folder.read(RunRecord)
            if record is not None and row.state == "running":
                folder.write(record.model_copy(update={"state": "stopped"}))
                tracking.close_run(folder.ref(record), stopped=reason, patience=10)

    def draw(self) -> None:
        """Draws the sweep, and logs figures and tables as artifacts of the parent run."""
        points = [_point(row) for row in self.rows() if row.state != "running"]
        pictures = draw_sweep(points, self.space.parsed(), score_of(self.record.config.metric).title)
        with self._parent() as outbox:
            for name, picture in pictures.items():
                png = io.BytesIO()
                Image.fromarray(picture).save(png, format="png")
                outbox.artifact(png.getvalue(), ARTIFACTS, f"{name}.png")
            outbox.artifact(self._csv().encode(), ARTIFACTS, "trials.csv")
            outbox.note(self._note(list(pictures)))
            table = self.folder.path / TRIALS
            if table.exists():
                outbox.artifact(table.read_bytes(), ARTIFACTS, TRIALS)

    def _csv(self) -> str:
        """Returns a CSV table with a row per trial; times are in seconds from the start of the sweep."""
        keys = list(self.space.parsed())
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["trial", *keys, self.record.config.metric, "epochs", "state", "first step", "end", "run_id"])
        for row in self.rows():
            values = [row.sampled.get(key) for key in keys]
            times = ["" if at is None else f"{at:.1f}" for at in (row.first_step, row.seconds)]
            writer.writerow([row.name, *values, row.score, row.epochs, row.state, *times, row.run_id])
        return text.getvalue()

    def _note(self, pictures: list[str]) -> str:
        best, metric = self.best(), self.record.config.metric
        ranked = sorted((row for row in self.rows() if row.score is not None), key=lambda row: -(row.score or 0))[:10]
        lines = [
            f"**{markdown(self.space.description)}** · {self.ended} of {self.count} trials · maximizes {metric}",
            "",
        ]
        if best is not None:
            lines += [f"Best: **{best.name}**, {metric} {best.score:.4f} · {markdown(_described(best.sampled))}", ""]
        lines += [
            " · ".join(
                tracking.artifact_link(self.record.run_id, f"{ARTIFACTS}/{name}.png", name.replace("_", " "))
                for name in pictures
            ),
            "",
            tracking.markdown_table([["trial", metric, "epochs", "state", "settings"], *map(_cells, ranked)]),
        ]
        return "\n".join(lines)

    def finish(self, register_as: str | None, fingerprint: str) -> str | None:
        """Logs the best trial's model and tags to MLflow, and registers the model if a name is given.

        Returns:
            Reference of the registered model; None if none was registered.
        """
        best, uri = self.best(), self.record.tracking_uri
        if best is None or best.run_id is None:
            return None
        folder = self.folder.trial(best.name)
        checkpoint, run = folder.best(), RunRef(folder.outbox, uri, best.run_id)
        if checkpoint is None:
            return None
        log_best(run, checkpoint)
        left = tracking.deliver(run.outbox, patience=60, say=say)
        try:
            tracking.set_tags(uri, best.run_id, {"gscnn.winner": self.record.name})
            tracking.set_tags(uri, self.record.run_id, {"gscnn.best_run": best.run_id})
            if register_as is None:
                return None
            metrics = metrics_of(checkpoint)
            scores = {key: value for key, value in metrics.items() if key.startswith("val/")}
            tracking.register(uri, register_as, best.run_id, scores, fingerprint)
            return f"{tracking.MODELS}{register_as}@{tracking.ALIAS}"
        except TrackingError as error:
            say(f"tracking: {error}{'; ' if left else ''}{left if left else ''}")
            return None


def _settings(sampled: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in sampled.items() if key != NUMBER}


def _cells(row: TrialRow) -> list[str]:
    return [row.name, f"{row.score:.4f}", str(row.epochs), row.state, markdown(_described(row.sampled))]


def _described(settings: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in settings.items()
    )


def _point(row: TrialRow) -> TrialPoint:
    state = "failed" if row.state == "diverged" else row.state
    assert state != "running"
    score = None if state == "failed" else row.score
    return TrialPoint(row.name, row.sampled, score, row.seconds, row.epochs, state)


_open: Board | None = None
"""The board that BoardCallback writes to; global because Tune pickles callbacks, and unpickles them on resume."""


def _sampled(trial: Any) -> dict[str, Any]:
    return {**trial.config, NUMBER: number_of(trial.trial_id, trial.config)}


class BoardCallback(tune.Callback):
    """Reports the events of Tune's loop to this process's board."""

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if _open is not None:
            _open.step()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if _open is not None:
            _open.began(_sampled(trial))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if _open is not None and SCORE in result:
            _open.validated(_sampled(trial), result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if _open is not None:
            _open.finished(_sampled(trial))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if _open is not None:
            _open.finished(_sampled(trial), failed=True)
