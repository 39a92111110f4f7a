"""Sweeps on a cluster, with a few small trials each."""

import json
import shutil
from pathlib import Path

import mlflow
import pytest

from gscnn_platform.cluster import ResourcesError
from gscnn_platform.config import ExperimentConfig, with_overrides
from gscnn_platform.data.disk_full import StorageError
from gscnn_platform.data.store import StaleStoreError, StoreError
from gscnn_platform.sweeps import SweepConfig, SweepError, driver, run_sweep
from gscnn_platform.sweeps.domains import SearchSpaceError
from gscnn_platform.sweeps.search_spaces import SEARCH_SPACES
from gscnn_platform.sweeps.space import SearchSpace
from gscnn_platform.sweeps.trial import SweepTrial
from gscnn_platform.tracking import find_model
from tests.stores import without_anchors


def sweep_of(tiny_run: ExperimentConfig, storage: Path, **changes: object) -> SweepConfig:
    config = with_overrides(SweepConfig.of(tiny_run), {"storage": str(storage), "training.pictures": 0, **changes})
    return config


def test_invalid_sweeps_are_rejected_before_a_cluster_is_used(
    tiny_run: ExperimentConfig, storage: Path, tmp_path: Path
) -> None:
    space = SEARCH_SPACES["loss-small"]
    with pytest.raises(SearchSpaceError, match=r"loss\.edge = -1.*does not fit streets"):
        run_sweep(
            sweep_of(tiny_run, storage),
            SearchSpace(description="", domains={"loss.edge": "choice(-1, 1)"}, search="grid"),
        )
    with pytest.raises(StoreError, match="--store is missing"):
        run_sweep(sweep_of(tiny_run, storage, store=None), space)
    assert not storage.exists()
    without_anchors(old := shutil.copytree(tiny_run.store or "", tmp_path / "old"))
    classes = SearchSpace(description="", domains={"data.class_uniform": "choice(0, 0.5)"}, search="grid")
    with pytest.raises(StaleStoreError, match=r"has no anchors of classes, which data\.class_uniform 0\.5 needs"):
        run_sweep(sweep_of(tiny_run, storage, store=str(old)), classes)
    storage.touch()
    with pytest.raises(StorageError, match=f"--storage {storage} cannot be used: "):
        run_sweep(sweep_of(tiny_run, storage), space)


def test_tunes_state_of_another_version_is_rejected_with_a_remedy(tmp_path: Path) -> None:
    # What pickle writes for a class of a module that no longer exists.
    (tmp_path / "tuner.pkl").write_bytes(b"cgscnn_platform.gone\nBoardCallback\n.")
    with pytest.raises(SweepError, match=r"was written by another version .*gone.* --no-resume"):
        driver._restored(str(tmp_path), SweepTrial)


@pytest.mark.usefixtures("ray_cluster")
def test_a_trial_that_is_too_large_is_rejected(tiny_run: ExperimentConfig, storage: Path) -> None:
    with pytest.raises(ResourcesError, match="1 x 999 CPU"):
        run_sweep(sweep_of(tiny_run, storage, cpus_per_worker=999), SEARCH_SPACES["loss-small"])


@pytest.mark.usefixtures("ray_cluster")
def test_trials_are_runs_in_the_sweeps_folder_and_the_best_one_is_registered(
    tiny_run: ExperimentConfig, storage: Path
) -> None:
    """Three trials, of which one diverges."""
    space = SearchSpace(description="", domains={"optimizer.lr": "choice(0.01, 1e30, 0.02)"}, search="grid")
    config = sweep_of(tiny_run, storage, register_as="streets", run_name="sweep")
    result = run_sweep(config, space)
    assert [row.state for row in result.trials] == ["finished", "diverged", "finished"]
    assert result.best is not None and result.best.score == max(row.score or 0 for row in result.trials)
    client = mlflow.MlflowClient(result.tracking_uri)
    experiment = client.get_run(result.run_id).info.experiment_id
    trials = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{result.run_id}'")
    assert {run.info.run_name: run.info.status for run in trials} == {
        "trial-000": "FINISHED",
        "trial-001": "FAILED",
        "trial-002": "FINISHED",
    }
    for run in trials:
        sampled = {0: 0.01, 1: 1e30, 2: 0.02}[int(str(run.info.run_name)[-1])]
        assert json.loads(run.data.tags["gscnn.overrides"]) == {"optimizer.lr": sampled}
        assert run.data.params["optimizer.lr"] == str(sampled)
        if run.info.status == "FINISHED":
            scores = [metric.value for metric in client.get_metric_history(run.info.run_id, "val/miou")]
            assert len(scores) == 2 and run.data.metrics["val_best/miou"] == max(scores)
    winners = [run.info.run_id for run in trials if run.data.tags.get("gscnn.winner") == "sweep"]
    assert winners == [result.best.run_id] == [client.get_run(result.run_id).data.tags["gscnn.best_run"]]
    assert result.registered == "models:/streets@best"
    version = client.get_model_version_by_alias("streets", "best")
    assert version.run_id == result.best.run_id
    assert version.tags["dataset.fingerprint"] == client.get_run(result.run_id).data.tags["dataset.fingerprint"]
    loaded = find_model(result.registered, result.tracking_uri)
    assert loaded.run_id == result.best.run_id
    assert loaded.config.optimizer.lr == result.best.sampled["optimizer.lr"]


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_trials_with_two_workers_run_on_ray_train(tiny_run: ExperimentConfig, storage: Path) -> None:
    changes = {"num_workers": 2, "num_trials": 2, "search": "random", "training.batch_size": 4}
    result = run_sweep(sweep_of(tiny_run, storage, **changes), SEARCH_SPACES["loss-small"])
    assert [row.state for row in result.trials] == ["finished", "finished"]


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_pbt_resumes_poor_trials_from_good_ones(tiny_run: ExperimentConfig, storage: Path) -> None:
    changes = {"training.epochs": 6, "num_trials": 4, "scheduler": "pbt"}
    result = run_sweep(sweep_of(tiny_run, storage, **changes), SEARCH_SPACES["loss-small"])
    assert [row.epochs for row in result.trials] == [6, 6, 6, 6]
    assert any(row.changes for row in result.trials)
