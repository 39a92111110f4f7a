import re
import socket
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest

from gscnn_platform import tracking
from gscnn_platform.config import ExperimentConfig, TrackingConfig
from gscnn_platform.data.store import Store
from gscnn_platform.runs.folder import RunFolder
from gscnn_platform.runs.ref import RunRef
from tests.tracked import log, tracked


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tracking.tracking_uri(TrackingConfig(), str(tmp_path_factory.mktemp("reading")))


@pytest.fixture
def run_id(uri: str, tiny_run: ExperimentConfig, streets_store: Store, tmp_path: Path) -> str:
    return tracking.create_run(uri, tiny_run, RunFolder.of(str(tmp_path), "a run"), streets_store, {})


def test_a_run_is_read_as_training_wrote_it(
    uri: str, run_id: str, tiny_run: ExperimentConfig, streets_store: Store, tmp_path: Path
) -> None:
    curve = {0: 0.1, 1: 0.4, 2: 0.3}
    with tracking.RunWriter.opened(RunRef(tmp_path, uri, run_id), system_metrics=False) as writer:
        writer.log_steps([(epoch, {"val/miou": value, "val_iou/road": value / 2}) for epoch, value in curve.items()])
        writer.log_steps([(step, {"train/total": 1 / step, "train/lr": 0.1}) for step in range(1, 1201)])
    tracking.close_run(RunRef(tmp_path, uri, run_id), failure="ValueError: no")
    run = tracking.read_run(uri, run_id, re.compile(r"val/.+|train/total"))
    assert (run.run_id, run.name, run.status) == (run_id, "a run", "FAILED")
    assert run.curves == {"val/miou": curve, "train/total": {step: 1 / step for step in range(1, 1201)}}
    assert run.metrics["val_iou/road"] == 0.15
    assert run.params["loss.edge"] == str(tiny_run.loss.edge)
    assert run.tags["failure"] == "ValueError: no"
    assert (run.dataset, run.fingerprint) == ("streets", streets_store.manifest.fingerprint)
    assert run.profile["samples"] == {"train": 6, "val": 3, "test": 1}
    assert run.ended is not None
    assert run.ended > run.started
    place = f"/#/experiments/{run.experiment_id}/runs/{run_id}"
    assert run.link == f"http://127.0.0.1:5000{place}/model-metrics?workflowType=machine_learning"
    command, page = tracking.look_at(uri, run_id, indent=3).split("\n")
    assert (command, page) == (tracking.ui_command(uri), f"   then open {run.link}")
    assert tracking.look_at(uri, run_id, charts=False).endswith(f"{place}?workflowType=machine_learning")
    assert tracking.read_run(uri, run_id).curves == {}


def test_a_run_of_an_earlier_version_keeps_its_curves_and_continues_them(uri: str, tmp_path: Path) -> None:
    client = mlflow.MlflowClient(uri)
    run_id = client.create_run("0").info.run_id
    for epoch in (1, 2):
        client.log_metric(run_id, "val/boundary_f_5px", epoch / 10, step=epoch)
    with tracking.RunWriter.opened(RunRef(tmp_path / "tracking", uri, run_id), system_metrics=False) as writer:
        writer.log_steps([(epoch, {"val/boundary_f_5px": epoch / 10}) for epoch in (2, 3)])
    assert not tracking.close_run(RunRef(tmp_path / "tracking", uri, run_id))
    run = tracking.read_run(uri, run_id, re.compile("val/.+"))
    assert run.curves == {"val/boundary_f_5px": {1: 0.1, 2: 0.2, 3: 0.3}}
    assert run.metrics == {"val/boundary_f_5px": 0.3}
    assert [row.step for row in client.get_metric_history(run_id, "val_more/boundary_f_5px")] == [3]


def test_a_sweeps_trials_are_read_in_the_order_in_which_they_started(uri: str, run_id: str) -> None:
    client = mlflow.MlflowClient(uri)
    experiment = client.get_run(run_id).info.experiment_id
    parent = client.create_run(experiment, run_name="the sweep", tags={tracking.SWEEP: "seeds"}).info.run_id
    tags = {"mlflow.parentRunId": parent}
    trials = [tracked(f"trial-{start}", 0.5, start, tags=tags, started=start) for start in (2, 1, 3)]
    ids = [log(client, trial, experiment) for trial in trials]
    client.delete_run(ids[2])
    found = tracking.children(uri, parent, re.compile(r"val/miou"))
    assert [run.name for run in found] == ["trial-1", "trial-2"]
    assert found[1] == replace(
        trials[0], uri=uri, run_id=ids[0], experiment_id=experiment, tags=found[1].tags, metrics=found[1].metrics
    )
    assert tracking.children(uri, run_id) == []


def test_the_picture_of_an_epoch_is_read_or_the_last_one(uri: str, run_id: str, tmp_path: Path) -> None:
    assert tracking.picture(uri, run_id, 1) is None
    with tracking.RunWriter.opened(RunRef(tmp_path, uri, run_id), system_metrics=False) as writer:
        for epoch in (1, 2, 10):
            writer.describe("caption", epoch, {}, picture=np.full((4, 6, 3), epoch, np.uint8))
    tracking.close_run(RunRef(tmp_path, uri, run_id))
    first, last = tracking.picture(uri, run_id, 1), tracking.picture(uri, run_id, 7)
    assert first is not None
    assert last is not None
    assert (first[0], last[0]) == (1, 10)
    assert first[1].startswith(b"\x89PNG")
    assert first[1] != last[1]


def test_a_run_is_found_by_its_id_or_by_a_unique_name(uri: str, run_id: str) -> None:
    client = mlflow.MlflowClient(uri)
    assert tracking.find_run(uri, run_id) == run_id
    client.set_tag(run_id, "mlflow.runName", "the only one's")
    assert tracking.find_run(uri, "the only one's") == run_id
    others = [client.create_run("0", run_name="twice").info.run_id for _ in range(2)]
    with pytest.raises(tracking.TrackingError, match=f"2 runs at .* are named 'twice': .*{others[0]}"):
        tracking.find_run(uri, "twice")
    with pytest.raises(tracking.TrackingError, match=r"no run at .* has the id or the name 'nobody'"):
        tracking.find_run(uri, "nobody")


def test_an_unreadable_run_is_an_error_with_run_uri_and_remedy(uri: str, tmp_path: Path) -> None:
    with pytest.raises(tracking.TrackingError, match=rf"run {'f' * 32} cannot be read at {uri}: .*--uri"):
        tracking.read_run(uri, "f" * 32)
    missing = tmp_path / "typo" / "mlflow.db"
    with pytest.raises(tracking.TrackingError, match="there is no such file"):
        tracking.find_run(f"sqlite:///{missing}", "name")
    assert not missing.parent.exists()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # Bound and not listening: a connection is refused.
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(tracking.TrackingError, match=f"http://{place}: "):
            tracking.children(f"http://{place}", "f" * 32)


def test_a_server_that_is_down_keeps_no_job_from_saying_where_to_look() -> None:
    assert tracking.look_at("http://127.0.0.1:9", "f" * 32) == "open http://127.0.0.1:9"


def test_links_and_texts_of_a_run_hold_no_password() -> None:
    run = replace(tracked("run", 0.5), uri="https://user:secret@tracker:8443/mlflow/")
    place = f"https://tracker:8443/mlflow/#/experiments/1/runs/{run.run_id}"
    assert run.link == f"{place}/model-metrics?workflowType=machine_learning"
    assert "secret" not in f"{run} {run!r} {run.place}"
