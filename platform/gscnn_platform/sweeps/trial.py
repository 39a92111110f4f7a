"""One trial of a sweep for Ray Tune: a training run in a thread, whose validations are the trial's steps.

A process is reused from trial to trial, so that imports, CUDA and the allocator are initialized once. A trial with one
worker trains in this process; a trial with several workers starts Ray Train.
"""

import json
import logging
import sys
import threading
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from queue import Queue
from typing import Any, Final

from ray import tune

from gscnn_platform import tracking
from gscnn_platform.config import Config, ExperimentConfig, with_overrides
from gscnn_platform.interrupts import TrainingStoppedError
from gscnn_platform.runs.folder import LOG, RunFolder
from gscnn_platform.sweeps.searchers import EPOCH, NUMBER, SCORE, number_of
from gscnn_platform.sweeps.space import VARIANT, SearchSpace
from gscnn_platform.training.trainer import Trial, run_training
from gscnn_platform.training.worker import NonFiniteLossError

POINTER: Final = "run.json"
"""The file that Tune stores as a trial's checkpoint: it holds the path of the run's folder."""
STOP_SECONDS: Final = 120.0
"""Seconds that a stopped trial has for its last step, checkpoint and metrics."""

Event = tuple[str, Any]
"""("scores", metrics), ("end", best metrics), ("stopped", None) or ("failed", exception)."""


class SweepJob(Config):
    """The settings that all trials of a sweep share."""

    recipe: ExperimentConfig
    space: SearchSpace
    metric: str
    """Key of the validation score: `val/miou`."""
    storage: str
    """Folder of the sweep, which contains a folder per trial."""
    parent_run_id: str
    space_name: str
    command: str
    """Command line of the sweep."""


def trial_name(number: int) -> str:
    """Returns the name of a trial's run and of its folder, such as `trial-007`."""
    return f"trial-{number:03d}"


def config_of(job: SweepJob, sampled: dict[str, Any]) -> ExperimentConfig:
    """Returns the full config of a trial."""
    settings = {key: value for key, value in sampled.items() if key != NUMBER}
    named = {"run_name": trial_name(sampled[NUMBER]), "storage": job.storage}
    return with_overrides(job.recipe, {**job.space.overrides(settings), **named})


class SweepTrial(tune.Trainable):
    """Trainable whose steps end with a validation; tune.with_parameters passes `job`."""

    def setup(self, config: dict[str, Any], job: dict[str, Any] | None = None) -> None:
        self.job = SweepJob.model_validate(job)
        for name in ("ray.train", "ray.tune"):
            logging.getLogger(name).setLevel(logging.WARNING)  # Else a line for each pointer that Tune saves or loads.
        self._prepare(config)

    def _prepare(self, sampled: dict[str, Any]) -> None:
        self.sampled = {**sampled, NUMBER: number_of(self.trial_id, sampled)}
        self.clone_from: RunFolder | None = None
        self.thread: threading.Thread | None = None
        self.scores: dict[str, Any] = {EPOCH: 0, SCORE: 0.0}

    @property
    def folder(self) -> RunFolder:
        return RunFolder.of(self.job.storage, trial_name(self.sampled[NUMBER]))

    def step(self) -> dict[str, Any]:
        if self.thread is None:
            self._begin()
        kind, value = self.events.get()
        if kind == "failed" and isinstance(value, NonFiniteLossError):
            # A restart would end the same way, and schedulers compare numbers: 0 is the lowest score.
            return {**self.scores, SCORE: 0.0, "diverged": True, "done": True}
        if kind == "failed":
            raise value
        if kind == "scores":
            best = max(value.get(self.job.metric, 0.0), self.scores[SCORE])
            self.scores = {**value, EPOCH: round(value["epoch"]), SCORE: best}
        if kind == "end":
            # A run that was already finished, or resumes from another run's last step, has reported no scores.
            best = max(value.get(self.job.metric, 0.0), self.scores[SCORE])
            self.scores = {**self.scores, EPOCH: self.epochs, SCORE: best}
        return {**self.scores, "done": kind != "scores"}

    @property
    def epochs(self) -> int:
        return config_of(self.job, self.sampled).training.epochs

    def _begin(self) -> None:
        self.events: Queue[Event] = Queue()
        overrides = self.job.space.overrides(self._searched)
        tags = tracking.trial_tags(self.job.parent_run_id, self.job.space_name, overrides, self._variant)
        trial = Trial(
            tags={**tags, "mlflow.source.name": self.job.command},
            tell=lambda scores: self.events.put(("scores", scores)),
            clone_from=self.clone_from,
        )
        self.trial = trial
        self.thread = threading.Thread(target=self._run, args=(trial, self.events), name="training", daemon=True)
        self.thread.start()

    @property
    def _searched(self) -> dict[str, Any]:
        return {key: value for key, value in self.sampled.items() if key != NUMBER}

    @property
    def _variant(self) -> str | None:
        return self.sampled.get(VARIANT)

    def _run(self, trial: Trial, events: "Queue[Event]") -> None:
        try:
            with ExitStack() as stack:
                place = self.folder.path
                if isinstance(place, Path):
                    # The sweep prints the progress of its trials; the output of a trial goes to a file in its folder.
                    place.mkdir(parents=True, exist_ok=True)
                    log = stack.enter_context((place / LOG).open("a", buffering=1, encoding="utf-8"))
                    stack.enter_context(redirect_stdout(log))
                result = run_training(config_of(self.job, self.sampled), trial)
            events.put(("end", result.best_metrics))
        except TrainingStoppedError:
            events.put(("stopped", None))
        except Exception as error:
            print(f"{trial_name(self.sampled[NUMBER])}: {type(error).__name__}: {error}", file=sys.stderr)
            events.put(("failed", error))

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        (Path(checkpoint_dir) / POINTER).write_text(json.dumps({"folder": self.folder.location}), encoding="utf-8")

    def load_checkpoint(self, checkpoint: Any) -> None:
        folder = RunFolder(json.loads((Path(checkpoint) / POINTER).read_text(encoding="utf-8"))["folder"])
        self.clone_from = None if folder == self.folder else folder

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.cleanup()
        self._prepare(new_config)
        return True

    def cleanup(self) -> None:
        if self.thread is not None and self.thread.is_alive():
            self.trial.stopper.stop(by_sweep=True)
            self.thread.join(STOP_SECONDS)
