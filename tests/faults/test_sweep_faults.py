"""A sweep whose driver is killed, started again by the same command. `make faults`."""

import signal
import time

import mlflow
import pytest

from tests.faults.driven import Driven
from tests.faults.table import note

pytestmark = pytest.mark.slow


def test_sweep_driver_killed(run: Driven) -> None:
    run.job = "jobs.sweep"
    run.extra = {
        "num-workers": 1,
        "space": "loss-small",
        "search": "random",
        "num-trials": 4,
        "training.checkpoint-steps": 1000,
        "loss.dual": 0.0,
    }
    run.start()
    run.wait_for("trial-00[01] finished after epoch 3")
    run.wait_for("trial-00[23] · epoch 1/3")
    run.signal(signal.SIGKILL)
    run.end()
    client = mlflow.MlflowClient(f"sqlite:///{run.runs}/mlflow.db")
    [experiment] = [each for each in client.search_experiments() if each.name == "gscnn"]
    [parent] = run.mlflow_runs()
    of_this = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    before = {each.info.run_id: each for each in client.search_runs([experiment.experiment_id], of_this)}
    finished = {key: each.info.end_time for key, each in before.items() if each.info.status == "FINISHED"}
    assert finished
    began = time.monotonic()
    run.start()
    run.wait_for(r"trial-00\d · epoch")
    seconds = time.monotonic() - began
    assert run.end() == 0, run.log.read_text()[-3000:]
    assert run.said("goes on 4 trials")
    after = {each.info.run_id: each for each in client.search_runs([experiment.experiment_id], of_this)}
    assert set(before) <= set(after) and len(after) == 4, "no second MLflow run of any trial"
    assert {each.info.run_name for each in after.values()} == {f"trial-00{number}" for number in range(4)}
    assert {each.info.status for each in after.values()} == {"FINISHED"}
    assert all(after[key].info.end_time == ended for key, ended in finished.items()), "finished trials are kept"
    for key in after:
        history = sorted(client.get_metric_history(key, "train/total"), key=lambda metric: metric.timestamp)
        assert [metric.step for metric in history] == list(range(1, 31))
    assert [each.info.status for each in run.mlflow_runs()] == ["FINISHED"]
    lost = f"epochs since the last validation; MLflow has {len(before)} runs of trials before and 4 after"
    note("sweep's driver killed", "SIGKILL, 4 trials, 2 at a time", lost, seconds)
