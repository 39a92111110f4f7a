"""Faults of tracking: servers that are killed, hang or are slow, killed writers, and twenty writers at once."""

import importlib
import multiprocessing
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import mlflow
import pytest
from mlflow.models import Model

from gscnn_platform import tracking
from gscnn_platform.runs.ref import RunRef
from gscnn_platform.tracking.delivery import client_of
from gscnn_platform.tracking.outbox.outbox import Outbox
from gscnn_platform.tracking.outboxes import open_outbox
from tests.faults.table import note

ROOT = Path(__file__).resolve().parents[2]
KEYS = tuple(f"train/{name}" for name in ("total", "seg", "edge", "attention", "lr"))


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Server:
    """`mlflow server` with a SQLite file, in its own process group."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.database, self.port = folder, folder / "mlflow.db", free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = f"mlflow server --backend-store-uri sqlite:///{self.database} --artifacts-destination {self.folder}/a"
        command += f" --host 127.0.0.1 --port {self.port} --workers 1"
        self._process = subprocess.Popen(
            [sys.executable, "-m", *command.split()],
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        until(self._listens, 120, "the server listens")

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """Sends SIGKILL to the server and its worker."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    yield server
    server.kill()


@contextmanager
def hung_server() -> Iterator[str]:
    """Accepts connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def until(true: Callable[[], bool], seconds: float, what: str) -> float:
    """Waits until `true()` holds; returns the seconds that it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.05)
    return time.monotonic() - began


def new_run(uri: str, database: Path) -> str:
    client = client_of(uri)
    experiment = client.get_experiment_by_name("faults")
    if experiment is not None:
        return client.create_run(experiment.experiment_id).info.run_id
    place = (database.parent / "artifacts").as_uri() if uri.startswith("sqlite") else None
    return client.create_run(client.create_experiment("faults", place)).info.run_id


def log(outbox: Outbox, first: int, last: int) -> None:
    outbox.metrics([(step, dict.fromkeys(KEYS, 1 / step)) for step in range(first, last + 1)])


def steps_of(database: Path, run_id: str, key: str) -> list[int]:
    """Returns the steps of all rows in the order in which they were inserted, including duplicates."""
    with closing(sqlite3.connect(database, timeout=20)) as connection:
        rows = connection.execute(
            "select step from metrics where run_uuid = ? and key = ? order by rowid", (run_id, key)
        )
        return [step for (step,) in rows]


@pytest.mark.slow
def test_a_server_killed_and_restarted_gets_every_step_in_order_and_once(server: Server, tmp_path: Path) -> None:
    run_id = new_run(server.uri, server.database)
    said: list[str] = []
    outbox = open_outbox(RunRef(tmp_path / "run" / "tracking", server.uri, run_id), said.append).start()
    stop = threading.Event()
    slowest, last = 0.0, 0

    def train() -> None:
        nonlocal slowest, last
        while not stop.is_set():
            began = time.monotonic()
            log(outbox, last + 1, last + 10)
            slowest, last = max(slowest, time.monotonic() - began), last + 10
            time.sleep(0.5)

    training = threading.Thread(target=train, daemon=True)
    training.start()
    waited = []
    for _ in range(2):
        there = len(steps_of(server.database, run_id, KEYS[0]))
        until(lambda there=there: len(steps_of(server.database, run_id, KEYS[0])) > there, 60, "metrics arrive")
        server.kill()
        until(lambda: outbox.error is not None, 20, "the failure is noticed")
        time.sleep(3)
        before = last
        server.start()
        seconds = until(lambda before=before: before in steps_of(server.database, run_id, KEYS[0]), 60, "all is there")
        waited.append(seconds)
    stop.set()
    training.join()
    left = outbox.close(patience=30)
    assert not left, left
    assert slowest < 1
    assert len([line for line in said if "training continues" in line]) == 2
    for key in KEYS:
        assert steps_of(server.database, run_id, key) == list(range(1, last + 1))
    (outbox.journal.folder / "delivered.json").unlink()
    assert not tracking.deliver(outbox.folder, patience=60)
    for key in KEYS:
        assert steps_of(server.database, run_id, key) == list(range(1, last + 1)), "delivered again, and none twice"
    delivered = " and ".join(f"{seconds:.1f}" for seconds in waited)
    lost = f"nothing: every step in order, exactly once, {delivered} s after the server listened again"
    note("MLflow server killed and restarted, twice", "SIGKILL to its processes while metrics stream", lost, 0)


@pytest.mark.slow
def test_what_a_dead_server_did_not_get_is_named_and_sync_tracking_delivers_it(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = tmp_path / "runs"
    folder = storage / "a-run" / "tracking"
    run_id = new_run(server.uri, server.database)
    server.kill()
    tracking.reopen_run(RunRef(folder, server.uri, run_id))
    with tracking.RunWriter.opened(RunRef(folder, server.uri, run_id), system_metrics=False) as writer:
        log(writer.outbox, 1, 50)
        writer.outbox.artifact(b"picture", "validation", "epoch-001.png")
        writer.outbox.note("epoch 1")
    saved = tmp_path / "saved"
    saved.mkdir()
    Model().save(saved / "MLmodel")
    best = open_outbox(RunRef(folder, server.uri, run_id))
    best.best({"val/best_miou": 0.5}, saved, "checkpoint", saved)
    best.close(patience=0)
    began = time.monotonic()
    left = tracking.close_run(RunRef(folder, server.uri, run_id), stopped="SIGTERM", patience=2)
    assert time.monotonic() - began < 10
    assert left.waiting == "metrics of 51 steps, status (2), artifact (2), note, model"
    assert f"python -m jobs.sync-tracking {folder}" in str(left) and "ConnectionRefusedError" in str(left)

    job = importlib.import_module("jobs.sync-tracking")
    with pytest.raises(SystemExit) as ended:
        job.deliver((storage,), uri="http://127.0.0.1:9")
    assert ended.value.code == 1
    assert "not delivered to http://127.0.0.1:9: metrics of 51 steps" in capsys.readouterr().out

    server.start()
    command = [sys.executable, "-m", "jobs.sync-tracking", str(storage), "--uri", server.uri]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{folder}: metrics of 51 steps" in done.stdout
    assert steps_of(server.database, run_id, KEYS[0]) == list(range(1, 51))
    client = mlflow.MlflowClient(server.uri)
    run = client.get_run(run_id)
    assert (run.info.status, run.data.tags["stopped"]) == ("KILLED", "SIGTERM")
    assert run.outputs is not None
    [output] = run.outputs.model_outputs
    assert [file.path for file in client.list_logged_model_artifacts(output.model_id)] == ["MLmodel"]
    assert [file.path for file in client.list_artifacts(run_id, "checkpoint")] == ["checkpoint/MLmodel"]
    assert run.data.tags["mlflow.note.content"] == "epoch 1"
    lost = (
        "nothing: a list of what is undelivered; `python -m jobs.sync-tracking FOLDER` delivers it with the run's end"
    )
    note("MLflow server killed for good", "SIGKILL to its processes before the first step", lost, 0)


def test_sync_tracking_leaves_a_run_alone_that_still_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    run_id = mlflow.MlflowClient(uri).create_run("0").info.run_id
    outbox = open_outbox(RunRef(tmp_path / "run" / "tracking", uri, run_id))
    log(outbox, 1, 3)
    job = importlib.import_module("jobs.sync-tracking")
    with pytest.raises(SystemExit) as ended:
        job.deliver((tmp_path,))
    assert ended.value.code == 1
    assert "is in use by a run" in capsys.readouterr().out
    outbox.close(patience=0)
    with pytest.raises(ValueError, match="holds no outbox: name a run's folder"):
        job.deliver((tmp_path / "run" / "tracking" / "0" / "files",))


def test_training_never_waits_for_a_server_that_hangs(tmp_path: Path) -> None:
    with hung_server() as uri:
        outbox = open_outbox(RunRef(tmp_path, uri, "f" * 32)).start()
        began = time.monotonic()
        for step in range(1, 1001):
            log(outbox, step, step)
        took = time.monotonic() - began
        assert took < 2
        began = time.monotonic()
        left = outbox.close(patience=1)
        assert time.monotonic() - began < 3
        assert left.waiting == "metrics of 1000 steps"
    lost = f"nothing: 1000 calls to log a step took {took * 1e3:.0f} ms"
    note("MLflow server hangs", "a socket that takes connections and never answers", lost, 0)


def write_until_killed(folder: Path, uri: str, run_id: str, ready: Connection) -> None:
    outbox = open_outbox(RunRef(folder, uri, run_id)).start()
    for step in range(1, 10**9):
        log(outbox, step, step)
        if step == 500:
            ready.send(step)
        time.sleep(0.001)


@pytest.mark.slow
def test_a_killed_writer_leaves_no_gap_and_no_step_twice(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    uri = f"sqlite:///{database}"
    run_id = new_run(uri, database)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gscnn_platform.tracking"])
    here, there = context.Pipe()
    writer = context.Process(target=write_until_killed, args=(tmp_path / "tracking", uri, run_id, there))
    writer.start()
    assert here.poll(60)
    writer.kill()
    writer.join()
    outbox = open_outbox(RunRef(tmp_path / "tracking", uri, run_id)).start()
    for first in range(401, 1401, 10):  # From the last checkpoint.
        log(outbox, first, first + 9)
    assert not outbox.close(patience=20)
    last = max(1400, *steps_of(database, run_id, KEYS[0]))
    assert steps_of(database, run_id, KEYS[0]) == list(range(1, last + 1))


def write_a_run(number: int, folder: Path, uri: str, run_id: str, start: Connection) -> None:
    """Writes 200 steps of 5 keys, one call per step."""
    start.recv()
    outbox = open_outbox(RunRef(folder / str(number) / "tracking", uri, run_id)).start()
    for step in range(1, 201):
        log(outbox, step, step)
        time.sleep(0.01)
    outbox.status("FINISHED", {})
    outbox.close(patience=120)


@pytest.mark.slow
def test_twenty_runs_that_write_to_one_sqlite_store_at_once_lose_nothing(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    uri = f"sqlite:///{database}"
    runs = [new_run(uri, database) for _ in range(20)]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gscnn_platform.tracking"])
    starts, writers = [], []
    for number, run_id in enumerate(runs):
        here, there = context.Pipe()
        writers.append(context.Process(target=write_a_run, args=(number, tmp_path, uri, run_id, there)))
        starts.append(here)
    for writer in writers:
        writer.start()
    began = time.monotonic()
    for start in starts:
        start.send(None)
    for writer in writers:
        writer.join(300)
    took = time.monotonic() - began
    for number, run_id in enumerate(runs):
        left = tracking.left_in(tmp_path / str(number) / "tracking")
        assert not left, left
        for key in KEYS:
            assert steps_of(database, run_id, key) == list(range(1, 201))
        assert mlflow.MlflowClient(uri).get_run(run_id).info.status == "FINISHED"
    lost = f"nothing: 20000 rows, each exactly once, in {took:.0f} s"
    note("20 runs write to one SQLite store", "20 processes of 200 steps x 5 metrics, started at once", lost, 0)


def create_run_at(uri: str, database: Path, start: Connection) -> None:
    start.recv()
    start.send(new_run(uri, database))


@pytest.mark.slow
def test_runs_that_open_a_fresh_sqlite_store_at_once_do_not_break_it(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gscnn_platform.tracking"])
    pipes = [context.Pipe() for _ in range(4)]
    drivers = [
        context.Process(target=create_run_at, args=(f"sqlite:///{database}", database, there), daemon=True)
        for _, there in pipes
    ]
    for driver in drivers:
        driver.start()
    for here, _ in pipes:
        here.send(None)
    for driver in drivers:
        driver.join(60)
    assert len({here.recv() for here, _ in pipes if here.poll()}) == 4
