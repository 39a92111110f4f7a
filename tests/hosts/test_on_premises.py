"""From nothing to a training run on three hosts that survives a power cut, in a user's steps: `make hosts-test`.

The tests share hosts and cluster and are in the order of a user's steps; each can be run alone.
"""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from gscnn_platform.data.formats.streets import Streets
from tests.faults.driven import Driven
from tests.hosts import machines
from tests.hosts.conftest import DASHBOARD, TRACKING, Secrets, nodes
from tests.hosts.machines import (
    CORES,
    FOLDER,
    HEAD,
    HOSTS,
    LAPTOP,
    ROOT,
    SHARED,
    address,
    home,
    ok,
    processes,
    run,
    until,
)
from tests.hosts.steps import note, timed
from tests.stores import build_store

pytestmark = pytest.mark.slow

EPOCHS = 5
STEPS = 10 * EPOCHS
JOB = ["ray", "job"]


class Submitted(Driven):
    """A training run that is submitted from the laptop and tracked on the first host."""

    @property
    def tracking_uri(self) -> str:
        return TRACKING


@pytest.fixture
def as_admin(kept: Secrets, tracking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives MLflow's client in this process the credentials of the laptop."""
    credentials(monkeypatch, home(LAPTOP))


@pytest.fixture
def training(cluster: Path, tracking: str, as_admin: None) -> Iterator[Submitted]:
    """A training run with two workers, each on all cores of a host; the third host is free."""
    run = Submitted(SHARED, "power-cut", {"cpus-per-worker": CORES, "training.epochs": EPOCHS})
    run.environment = machines.variables(DASHBOARD)
    submit = ["--working-dir", str(ROOT), "--runtime-env", str(ROOT / "jobs" / "runtime_env.yaml")]
    run.before = machines.command(LAPTOP, *JOB, "submit", *submit, "--")
    yield run
    if run.running and run.process is not None:
        run.process.kill()


def credentials(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Sets the home of MLflow's client in this process; without a credentials file in it, there are no credentials."""
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(folder))


def test_jobs_are_refused_without_the_token_and_with_a_wrong_one(cluster: Path) -> None:
    with timed("jobs refused without the token, with a wrong one, accepted with the right one"):
        for words in ((*JOB, "list"), (*JOB, "submit", "--", "true")):
            without = run(LAPTOP, *words, env={**DASHBOARD, "RAY_AUTH_MODE": "disabled"})
            assert without.returncode != 0 and "Unauthorized: Missing authentication token" in without.stdout
            wrong = run(LAPTOP, *words, env={**DASHBOARD, "RAY_AUTH_TOKEN": "0" * 64})
            assert wrong.returncode != 0 and "Forbidden: Invalid authentication token" in wrong.stdout
        assert "SUBMISSION" not in ok(LAPTOP, *JOB, "list", env=DASHBOARD), "nothing was submitted"
        assert "it works" in ok(LAPTOP, *JOB, "submit", "--", "echo", "it works", env=DASHBOARD)


def test_from_the_network_only_ssh_and_the_ports_that_ask_for_the_token_are_open(cluster: Path, kept: Secrets) -> None:
    assert run(LAPTOP, "curl", "--silent", f"http://{address(HEAD)}:8265").returncode == 7, "connection refused"
    connect = "import ray; ray.init('10.79.0.1:6379')"
    assert "InvalidAuthToken" in run(LAPTOP, "python", "-c", connect, env={"RAY_AUTH_MODE": "disabled"}).stdout
    for host in HOSTS:
        for name in (".ray/auth_token", ".mlflow/credentials"):
            assert (home(host) / name).stat().st_mode & 0o777 == 0o600


def test_tracking_is_refused_without_credentials_and_with_wrong_ones(
    tracking: str, kept: Secrets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with timed("MLflow refused without credentials, with wrong ones, accepted with the right ones"):
        credentials(monkeypatch, tmp_path)
        with pytest.raises(MlflowException, match="401"):
            mlflow.MlflowClient(tracking).search_experiments()
        (tmp_path / ".mlflow").mkdir()
        right = (home(LAPTOP) / ".mlflow" / "credentials").read_text()
        (tmp_path / ".mlflow" / "credentials").write_text(right.replace(kept.mlflow, "0" * 32))
        with pytest.raises(MlflowException, match="401"):
            mlflow.MlflowClient(tracking).search_experiments()
        credentials(monkeypatch, home(LAPTOP))
        assert [found.name for found in mlflow.MlflowClient(tracking).search_experiments()] == ["Default"]


def test_a_training_goes_on_when_the_host_of_a_worker_is_switched_off(training: Submitted, kept: Secrets) -> None:
    build_store(SHARED / "store", Streets(height=64, width=96, train=40, val=6, test=1))
    with timed("submitted until the first step on two hosts"):
        training.start()
        training.at_step(2)
    training.at_step(12)
    of_workers = [host for host in HOSTS if processes(host, "RayTrainWorker")]
    assert len(of_workers) == 2
    with timed("host of a worker switched off, until training resumes on the third"):
        machines.hosts("off", of_workers[-1])
        training.wait_for(r"resuming after step \d+ of \d+ on 2 workers")
    [free] = set(HOSTS) - set(of_workers)
    until(lambda: bool(processes(free, "RayTrainWorker")), 30, "a worker on the host that was free")
    with timed("from there to the end"):
        assert training.end() == 0, training.log.read_text()[-3000:]
    assert [found.info.status for found in training.mlflow_runs()] == ["FINISHED"]
    for key in ("train/total", "train/edge"):
        assert training.steps_of(key) == list(range(1, STEPS + 1)), "every step once"
    assert training.steps_of("val/miou") == list(range(EPOCHS + 1))
    assert_nowhere(kept, training)


def assert_nowhere(kept: Secrets, training: Submitted) -> None:
    """Asserts that no job, run, log or process list shows a secret."""
    [tracked] = training.mlflow_runs()
    told = {
        "ray job list": ok(LAPTOP, *JOB, "list", env=DASHBOARD),
        "the MLflow run": f"{tracked.data.params} {tracked.data.tags}",
        "processes": "".join(run(host, "ps", "axwwo", "cmd").stdout for host in HOSTS),
    }
    assert "PYTHONPATH" in told["ray job list"] and "store" in told["the MLflow run"]
    assert logs_with(training.name), "logs are searched"
    for secret in (kept.token, kept.mlflow, kept.postgres):
        assert not [where for where, text in told.items() if secret in text]
        assert not logs_with(secret)


def logs_with(text: str) -> list[str]:
    """Returns the files that contain `text`: Ray's and the run's logs, and the output on laptop and hosts."""
    logs = [SHARED, *FOLDER.glob("*/tmp/ray"), *FOLDER.glob("*/home/*.log")]
    return subprocess.run(["grep", "-rlF", text, *logs], capture_output=True, text=True, check=False).stdout.split()


def test_a_host_that_is_switched_on_again_joins_by_itself(cluster: Path) -> None:
    lost = next((host for host in HOSTS if not is_on(host)), HOSTS[-1])
    if is_on(lost):
        machines.hosts("off", lost)
    until(lambda: nodes() == len(HOSTS) - 1, 120, "its loss is noticed")
    with timed("the host switched on again, until it works, by itself"):
        machines.hosts("on", lost)
        until(lambda: nodes() == len(HOSTS), 300, "it has joined")


def is_on(host: int) -> bool:
    return run(host, "true").returncode == 0


def test_a_second_ray_up_leaves_what_runs_alone(cluster: Path) -> None:
    before = {host: processes(host, "raylet/raylet") for host in HOSTS}
    with timed("a second `ray up`"):
        ok(LAPTOP, "ray", "up", "--yes", cluster, seconds=300)
    for state in (FOLDER / str(LAPTOP) / "tmp" / "ray").glob("*.state"):
        state.unlink()
    ok(LAPTOP, "ray", "up", "--yes", cluster, seconds=300)
    time.sleep(20)
    assert {host: processes(host, "raylet/raylet") for host in HOSTS} == before


def test_after_ray_down_no_ray_is_left(cluster: Path) -> None:
    with timed("`ray down`, and `ray stop` on the workers"):
        ok(LAPTOP, "ray", "down", "--yes", cluster, seconds=300)
        for host in set(HOSTS) - {HEAD}:
            ok(LAPTOP, "ssh", "-o", "StrictHostKeyChecking=no", address(host), "bash -ic 'ray stop'")
    assert {host: processes(host, "ray") for host in HOSTS} == {host: [] for host in HOSTS}


def test_after_the_hosts_nothing_of_them_is_left(hosts: None) -> None:
    began = time.monotonic()
    machines.hosts("down")
    note("all hosts end", time.monotonic() - began)
    for words in (("ip", "netns", "list"), ("ip", "link"), ("ps", "axww")):
        assert "gscnn-host" not in subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert not FOLDER.exists()
