"""Training runs as subprocesses that tests may kill, and what they leave."""

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

from gscnn_platform.paths import AnyPath, RemotePath

ROOT = Path(__file__).resolve().parents[2]
STEPS = 30
EVERY_STEP = list(range(1, STEPS + 1))
TINY = {
    "num-workers": 2,
    "augmentation.crop": (128, 128),
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
"""Three epochs of ten steps on 40 scenes; the dual-task term draws random numbers in each step."""


@dataclass
class Driven:
    """A command line of a job, which may be started repeatedly."""

    folder: Path
    name: str
    extra: dict[str, object] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    job: str = "jobs.train"
    before: list[str] = field(default_factory=list)
    """Prefix of the command line, to submit it."""
    store: AnyPath | None = None
    """None: `store` in the folder."""
    storage: AnyPath | None = None
    """None: `runs` in the folder."""
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    @property
    def run_folder(self) -> AnyPath:
        return self.runs / self.name

    @property
    def runs(self) -> AnyPath:
        return self.storage or self.folder / "runs"

    @property
    def tracking_uri(self) -> str:
        return f"sqlite:///{self.runs if isinstance(self.runs, Path) else self.folder / 'runs'}/mlflow.db"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}-{self.starts}.log"

    def start(self) -> None:
        self.starts += 1
        words = [
            *self.before,
            sys.executable,
            "-m",
            self.job,
            "streets",
            "--store",
            str(self.store or self.folder / "store"),
        ]
        for key, value in {**TINY, **self.extra}.items():
            words += [f"--{key}", *map(str, value if isinstance(value, tuple) else (value,))]
        words += ["--run-name", self.name, "--storage", str(self.runs), "--tracking.no-system-metrics"]
        words += ["--tracking.uri", self.tracking_uri] if isinstance(self.runs, RemotePath) else []
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                words, cwd=self.folder, env=self.variables, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def variables(self) -> dict[str, str]:
        """Environment of the job's processes."""
        inherited = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
        return {**inherited, "PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}", "OMP_NUM_THREADS": "1", **self.environment}

    def said(self, pattern: str) -> bool:
        return re.search(pattern, self.log.read_text()) is not None

    def found(self, pattern: str) -> str:
        """Returns what the pattern's group matched in the log, the last time."""
        return re.findall(pattern, self.log.read_text())[-1]

    def wait_for(self, pattern: str, seconds: float = 180) -> float:
        """Waits until `pattern` is in the log; returns how long that took."""
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
        """Waits for the end of the job; returns the exit status."""
        assert self.process is not None
        return self.process.wait(timeout=seconds)

    def at_step(self, step: int) -> None:
        """Waits for the progress line of a step, which must be even."""
        epoch, in_epoch = divmod(step - 1, 10)
        self.wait_for(rf"epoch +{epoch + 1}/\d+ · step +{in_epoch + 1}/10")

    def resume_to_the_end(self) -> float:
        """Starts the same command again; returns the seconds until training resumed."""
        self.start()
        began = time.monotonic()
        self.wait_for(r"resuming after step")
        self.wait_for(r"epoch +\d+/\d+ · step")
        seconds = time.monotonic() - began
        assert self.end() == 0, self.log.read_text()[-3000:]
        return seconds

    def assert_as_if_nothing_had_happened(self, undisturbed: str) -> None:
        assert self.weights() == undisturbed, "bit-equal weights"
        assert [found.info.status for found in self.mlflow_runs()] == ["FINISHED"], "one MLflow run"
        assert self.steps_of("train/total") == EVERY_STEP, "strictly increasing, none twice, no gap"
        assert self.steps_of("val/miou") == [0, 1, 2, 3]

    def workers(self) -> list[psutil.Process]:
        """Ray Train's workers of this cluster, which are children not of the driver but of its raylet."""
        assert self.process is not None
        return train_workers(psutil.Process(self.process.pid))

    def weights(self) -> str:
        """Returns the sha256 of the weights at the last step."""
        return hashlib.sha256((self.run_folder / f"step-{STEPS:08d}" / "model.pt").read_bytes()).hexdigest()

    def mlflow_runs(self) -> list[Run]:
        client = self._client()
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        return list(client.search_runs(experiments, f"attributes.run_name = '{self.name}'"))

    def steps_of(self, key: str) -> list[int]:
        """Returns the steps of the metric's history, in the order in which they were logged."""
        [run] = self.mlflow_runs()
        history = self._client().get_metric_history(run.info.run_id, key)
        return [metric.step for metric in sorted(history, key=lambda metric: metric.timestamp)]

    def _client(self) -> mlflow.MlflowClient:
        return mlflow.MlflowClient(self.tracking_uri)


def train_workers(process: psutil.Process) -> list[psutil.Process]:
    """Returns Ray Train's workers below a driver with its own cluster, or below a node's raylet."""
    children = process.children(recursive=True)
    return [child for child in children if any("RayTrainWorker" in word for word in child.cmdline())]
