"""Runs that were deleted in MLflow, and names that MLflow would reject, with a SQLite store."""

import json
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest

from gscnn_platform import tracking
from gscnn_platform.comparison import CURVES
from gscnn_platform.config import ExperimentConfig, with_overrides
from gscnn_platform.data.store import Store
from gscnn_platform.runs.folder import RunFolder
from gscnn_platform.runs.ref import RunRef
from gscnn_platform.tracking import DeletedError


def test_the_store_is_in_its_folder_whatever_the_folders_name(folder: Path, run_id: str) -> None:
    assert (
        {"mlflow.db", "mlartifacts"}
        <= {path.name for path in folder.iterdir()}
        <= {
            "mlflow.db",
            "mlflow.db.lock",
            "mlartifacts",
        }
    )
    assert [path.name for path in folder.parent.iterdir()] == [folder.name], "no folder of an encoded name beside it"
    assert len(list((folder / "mlartifacts").rglob("manifest.json"))) >= 1


def test_a_run_that_a_killed_start_left_is_reused_unless_settings_differ(
    uri: str, tiny_run: ExperimentConfig, streets_store: Store, folder: Path
) -> None:
    place = str(folder / "x")
    first = tracking.create_run(uri, tiny_run, RunFolder(place), streets_store, {})
    assert tracking.create_run(uri, tiny_run, RunFolder(place), streets_store, {"more": "tags"}) == first
    assert mlflow.MlflowClient(uri).get_run(first).data.tags["more"] == "tags"
    other = with_overrides(tiny_run, {"optimizer.lr": 0.5})
    assert tracking.create_run(uri, other, RunFolder(place), streets_store, {}) != first
    assert tracking.create_run(uri, tiny_run, RunFolder(place.replace("'", "_")), streets_store, {}) != first


def test_a_start_that_fails_while_describing_its_run_leaves_no_run(
    uri: str, tiny_run: ExperimentConfig, streets_store: Store, client: mlflow.MlflowClient, run_id: str
) -> None:
    experiment = client.get_run(run_id).info.experiment_id
    before = len(client.search_runs([experiment]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "log_inputs", lambda *_: (_ for _ in ()).throw(OSError("the disk is full")))
        with pytest.raises(tracking.TrackingError, match="the disk is full"):
            tracking.create_run(uri, tiny_run, RunFolder("/y"), streets_store, {})
    assert len(client.search_runs([experiment])) == before


def test_scores_of_classes_with_any_name_are_tracked_and_read_back(
    uri: str, run_id: str, tmp_path: Path, client: mlflow.MlflowClient
) -> None:
    classes = ["road (paved)", "person, sitting", "50% grey", "a=b", "car/van", "Straße", "pole: thin", ".."]
    scores = {f"val_iou/{name}": index / 10 for index, name in enumerate(classes)} | {"val/miou": 0.5}
    with tracking.RunWriter.opened(RunRef(tmp_path, uri, run_id), system_metrics=False) as writer:
        writer.log_steps([(1, scores)])
    assert not tracking.close_run(RunRef(tmp_path, uri, run_id))
    assert client.get_run(run_id).data.metrics["val_iou/road :lpar:paved:rpar:"] == 0.0
    run = tracking.read_run(uri, run_id, CURVES)
    assert run.metrics == scores
    assert run.curves == {key: {1: value} for key, value in scores.items()}
    tracking.log_evaluation(uri, run_id, {f"val_evaluated_iou/{name}": 0.5 for name in classes}, {}, {})
    assert tracking.read_run(uri, run_id).metrics["val_evaluated_iou/50% grey"] == 0.5


@pytest.mark.parametrize("name", ['it\'s "the" one', "back\\", "50%_", "a;b"])
def test_a_run_is_found_by_a_name_with_quotes(uri: str, run_id: str, name: str, client: mlflow.MlflowClient) -> None:
    client.set_tag(run_id, "mlflow.runName", name)
    decoy = client.create_run(
        "0", run_name=name.replace("'", "x").replace("\\", "x").replace("%", "x").replace(";", "x")
    )
    assert tracking.find_run(uri, name) == run_id
    client.delete_run(decoy.info.run_id)
    client.delete_run(run_id)


def test_a_deleted_run_is_an_error_that_names_both_options(uri: str, run_id: str, client: mlflow.MlflowClient) -> None:
    assert tracking.needs_new_run(uri, run_id, "error") is False
    client.delete_run(run_id)
    with pytest.raises(DeletedError, match=r"on-deleted restore, or .* --tracking\.on-deleted new") as told:
        tracking.needs_new_run(uri, run_id, "error")
    assert run_id in str(told.value) and len(str(told.value).splitlines()) <= 3
    assert tracking.needs_new_run(uri, run_id, "new") is True
    assert tracking.needs_new_run(uri, run_id, "restore") is False
    assert client.get_run(run_id).info.lifecycle_stage == "active"
    with pytest.raises(DeletedError, match="cannot be restored"):
        tracking.needs_new_run(uri, "f" * 32, "restore")


def test_a_deleted_experiment_is_restored_with_its_runs_or_reported(
    uri: str, tiny_run: ExperimentConfig, streets_store: Store, client: mlflow.MlflowClient
) -> None:
    config = with_overrides(tiny_run, {"tracking.experiment": "another's"})
    run_id = tracking.create_run(uri, config, RunFolder("/x"), streets_store, {})
    experiment = client.get_run(run_id).info.experiment_id
    client.delete_experiment(experiment)
    with pytest.raises(
        DeletedError, match=r'experiment "another\'s" .* was deleted\.\nRestore it .*on-deleted restore'
    ):
        tracking.create_run(uri, config, RunFolder("/y"), streets_store, {})
    assert tracking.needs_new_run(uri, run_id, "restore") is False
    assert client.get_experiment(experiment).lifecycle_stage == "active"
    assert client.get_run(run_id).info.lifecycle_stage == "active"
    client.delete_experiment(experiment)
    restoring = with_overrides(config, {"tracking.on_deleted": "restore"})
    tracking.create_run(uri, restoring, RunFolder("/y"), streets_store, {})
    assert client.get_experiment(experiment).lifecycle_stage == "active"


def test_a_run_resumes_while_the_server_is_down() -> None:
    assert tracking.needs_new_run("http://127.0.0.1:9", "f" * 32, "error") is False


def test_a_new_run_gets_everything_that_the_deleted_one_had(
    uri: str, run_id: str, tiny_run: ExperimentConfig, streets_store: Store, tmp_path: Path, client: mlflow.MlflowClient
) -> None:
    run = RunRef(tmp_path / "tracking", uri, run_id)
    with tracking.RunWriter.opened(run, system_metrics=False) as writer:
        writer.log_steps([(step, {"train/total": 1 / step}) for step in range(1, 11)])
        writer.describe("caption", 1, {}, picture=np.zeros((4, 6, 3), np.uint8))
    tracking.close_run(run, stopped="SIGTERM")
    client.delete_run(run_id)
    began = tracking.start_time_of(uri, run_id)
    new = tracking.create_run(uri, tiny_run, RunFolder(str(tmp_path)), streets_store, {}, began)
    assert new != run_id
    tracking.move_to(run, new)
    moved = replace(run, run_id=new)
    tracking.reopen_run(moved)
    with tracking.RunWriter.opened(moved, system_metrics=False) as writer:
        writer.log_steps([(step, {"train/total": 1 / step}) for step in range(9, 13)])
    assert not tracking.close_run(moved)
    history = client.get_metric_history(new, "train/total")
    assert [(row.step, row.value) for row in history] == [(step, 1 / step) for step in range(1, 13)]
    there = [file.path for file in client.list_artifacts(new, "validation")]
    assert there == ["validation/epoch-001.png", "validation/last.jpg"]
    assert client.get_run(new).info.status == "FINISHED"
    assert client.get_run(new).info.start_time == began


def test_an_outbox_of_an_earlier_run_with_the_same_name_is_moved_aside_without_loss(
    uri: str, run_id: str, tmp_path: Path
) -> None:
    run = RunRef(tmp_path / "x-1234", uri, run_id)
    opened = tracking.open_outbox(run)
    opened.metrics([(1, {"train/total": 0.5})])
    opened.close(patience=0)
    lines: list[str] = []
    tracking.make_way(run, lines.append)
    assert run.outbox.exists() and not lines
    tracking.make_way(replace(run, run_id="f" * 32), lines.append)
    assert not run.outbox.exists()
    aside = tmp_path / f"x-1234-{run_id[:8]}"
    assert tracking.left_in(aside).waiting == "metrics of 1 steps"
    assert str(aside) in lines[0]


def test_the_classes_original_names_are_in_the_runs_dataset(uri: str, run_id: str, streets_store: Store) -> None:
    run = mlflow.MlflowClient(uri).get_run(run_id)
    assert run.inputs is not None
    profile = json.loads(str(run.inputs.dataset_inputs[0].dataset.profile))
    assert tuple(profile["pixels"]["val"])[:-1] == streets_store.manifest.identity.classes
