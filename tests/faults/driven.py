"""Trainings as subprocesses that tests may kill, and what is left of them."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
import psutil
from mlflow.entities import Run

ROOT = Path(__file__).resolve().parents[2]
STEPS = 30
TINY = {
    "num-workers": 2,
    "augmentation.crop": (64, 64),
    "training.epochs": 3,
    "training.batch-size": 4,
    "training.log-every": 2,
    "training.validate-every": 1,
    "training.checkpoint-steps": 4,
    "model.aspp-channels": 8,
    "model.low-level-channels": 8,
    "model.shape-widths": (8, 8, 8, 8),
    "loss.dual": 1.0,
}
"""Three epochs of ten steps on 40 scenes; the dual-task term draws random numbers in each."""


@dataclass
class Driven:
    """One command line of jobs.train, which may be started again and again."""

    folder: Path
    name: str
    extra: dict[str, object] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    @property
    def run_folder(self) -> Path:
        return self.folder / "runs" / self.name

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}-{self.starts}.log"

    def start(self) -> None:
        self.starts += 1
        words = [str(sys.executable), "-m", "jobs.train", "streets", "--store", "store", "--run-name", self.name]
        for key, value in {**TINY, **self.extra}.items():
            words += [f"--{key}", *map(str, value if isinstance(value, tuple) else (value,))]
        words.append("--tracking.no-system-metrics")
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}", "OMP_NUM_THREADS": "1"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                words, cwd=self.folder, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )

    def said(self, pattern: str) -> bool:
        return re.search(pattern, self.log.read_text()) is not None

    def wait_for(self, pattern: str, seconds: float = 180) -> float:
        """Waits until the log has `pattern`; returns how long that took."""
        began = time.monotonic()
        while not self.said(pattern):
            assert time.monotonic() - began < seconds, f"no {pattern!r} in {seconds} s:\n{self.log.read_text()[-3000:]}"
            assert self.running, f"ended before {pattern!r}:\n{self.log.read_text()[-3000:]}"
            time.sleep(0.1)
        return time.monotonic() - began

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def end(self, seconds: float = 240) -> int:
        """Waits for the end; returns the exit status."""
        assert self.process is not None
        return self.process.wait(timeout=seconds)

    def workers(self) -> list[psutil.Process]:
        """The Train workers of this cluster, which are no children of the driver but of its raylet."""
        assert self.process is not None
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if any("RayTrainWorker" in word for word in child.cmdline())]

    def weights(self) -> str:
        """sha256 of the weights of the last step."""
        [model] = self.run_folder.glob(f"step-{STEPS:08d}-*/model.pt")
        return hashlib.sha256(model.read_bytes()).hexdigest()

    def mlflow_runs(self) -> list[Run]:
        client = self._client()
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        return list(client.search_runs(experiments, f"attributes.run_name = '{self.name}'"))

    def steps_of(self, key: str) -> list[int]:
        """Of the metric's history, in the order in which it was logged."""
        [run] = self.mlflow_runs()
        history = self._client().get_metric_history(run.info.run_id, key)
        return [metric.step for metric in sorted(history, key=lambda metric: metric.timestamp)]

    def _client(self) -> mlflow.MlflowClient:
        return mlflow.MlflowClient(f"sqlite:///{self.folder}/runs/mlflow.db")
