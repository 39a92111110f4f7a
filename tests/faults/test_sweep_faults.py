"""Sweeps whose driver or trials are killed, resumed by the same command. `make faults`."""

import signal
import time

import mlflow
import psutil
import pytest
from mlflow.entities import Run

from tests.faults.driven import EVERY_STEP, Driven
from tests.faults.table import note

pytestmark = pytest.mark.slow


@pytest.fixture
def sweep(run: Driven) -> Driven:
    """Four trials of three epochs, two at a time."""
    run.job = "jobs.sweep"
    run.extra = {
        "num-workers": 1,
        "space": "loss-small",
        "search": "random",
        "num-trials": 4,
        "training.checkpoint-steps": 1000,
        "loss.dual": 0.0,
    }
    return run


def trials_of(sweep: Driven) -> dict[str, Run]:
    """Returns run id -> MLflow run."""
    client = mlflow.MlflowClient(f"sqlite:///{sweep.runs}/mlflow.db")
    [parent] = sweep.mlflow_runs()
    found = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    return {run.info.run_id: run for run in found}


def assert_whole(sweep: Driven) -> None:
    """Asserts that there are one parent run and four trials, with every step exactly once."""
    assert [run.info.status for run in sweep.mlflow_runs()] == ["FINISHED"]
    trials = trials_of(sweep)
    assert sorted(str(run.info.run_name) for run in trials.values()) == [f"trial-00{number}" for number in range(4)]
    assert {run.info.status for run in trials.values()} == {"FINISHED"}
    client = mlflow.MlflowClient(f"sqlite:///{sweep.runs}/mlflow.db")
    for key in trials:
        history = sorted(client.get_metric_history(key, "train/total"), key=lambda metric: metric.timestamp)
        assert [metric.step for metric in history] == EVERY_STEP


def test_sweep_driver_killed(sweep: Driven) -> None:
    sweep.start()
    sweep.wait_for("trial-00[01] finished after epoch 3")
    sweep.wait_for("trial-00[23] · epoch 1/3")
    sweep.signal(signal.SIGKILL)
    sweep.end()
    before = trials_of(sweep)
    finished = {key: run.info.end_time for key, run in before.items() if run.info.status == "FINISHED"}
    assert finished
    began = time.monotonic()
    sweep.start()
    sweep.wait_for(r"trial-00\d · epoch")
    seconds = time.monotonic() - began
    assert sweep.end() == 0, sweep.log.read_text()[-3000:]
    assert sweep.said("resumes:")
    after = trials_of(sweep)
    assert set(before) <= set(after), "no second MLflow run of any trial"
    assert all(after[key].info.end_time == ended for key, ended in finished.items()), "finished trials are kept"
    assert_whole(sweep)
    lost = f"epochs since the last validation; MLflow has {len(before)} runs of trials before and {len(after)} after"
    note("sweep's driver killed", "SIGKILL, 4 trials, 2 at a time", lost, seconds)


def test_sweeps_trial_killed_and_sweep_stopped(sweep: Driven) -> None:
    sweep.start()
    sweep.wait_for("trial-00[01] · epoch 1/3")
    assert sweep.process is not None
    children = psutil.Process(sweep.process.pid).children(recursive=True)
    names = {child: " ".join(child.cmdline()) for child in children}
    victim = next(child for child, name in names.items() if "SweepTrial" in name or "ResourceTrainable" in name)
    victim.kill()
    sweep.wait_for("trial-00[23] · epoch 1/3")
    sweep.signal(signal.SIGTERM)
    began = time.monotonic()
    assert sweep.end() == 143
    stopped_in = time.monotonic() - began
    assert [run.info.status for run in sweep.mlflow_runs()] == ["KILLED"]
    assert "RUNNING" not in {run.info.status for run in trials_of(sweep).values()}
    began = time.monotonic()
    sweep.start()
    sweep.wait_for(r"trial-00\d · epoch")
    seconds = time.monotonic() - began
    assert sweep.end() == 0, sweep.log.read_text()[-3000:]
    assert_whole(sweep)
    how = f"SIGKILL to a trial's process, then SIGTERM to the driver, which ended after {stopped_in:.0f} s"
    note("sweep's trial killed, sweep stopped", how, "epochs since the last validation", seconds)
