import shutil
from pathlib import Path

import pytest
import torch

from gscnn_platform.config import ExperimentConfig
from gscnn_platform.data.store import Store
from gscnn_platform.training import checkpoints
from tests.saved import save_checkpoint


def test_a_loaded_model_gives_the_logits_of_the_saved_one(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    model = save_checkpoint(tmp_path / "checkpoint", tiny_run, streets_store)
    loaded = checkpoints.load_model(tmp_path / "checkpoint")
    image, gradient = torch.randn(1, 3, 64, 96), torch.rand(1, 1, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.model(image, gradient), model(image, gradient), rtol=0, atol=0)
    assert loaded.config == tiny_run
    assert loaded.dataset == streets_store.manifest.identity
    assert loaded.metrics["val/miou"] == 0.25
    assert not loaded.model.training


def test_a_runs_folder_stands_for_its_best_checkpoint(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    for name, miou in (("checkpoint_1", 0.3), ("checkpoint_2", 0.6), ("checkpoint_3", 0.5)):
        save_checkpoint(tmp_path / "run" / name, tiny_run, streets_store, miou)
    assert checkpoints.load_model(tmp_path / "run").metrics["val/miou"] == 0.6


def test_a_checkpoint_is_not_unpickled(tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store) -> None:
    save_checkpoint(tmp_path / "checkpoint", tiny_run, streets_store)
    torch.save({"weights": Path("an object of a class")}, tmp_path / "checkpoint" / "model.pt")
    with pytest.raises(Exception, match="Weights only load failed"):
        checkpoints.load_model(tmp_path / "checkpoint")


def test_a_folder_that_is_no_checkpoint_is_an_error_that_names_what_is_missing(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    with pytest.raises(checkpoints.CheckpointError, match="is no folder"):
        checkpoints.load_model(tmp_path / "nowhere")
    save_checkpoint(tmp_path / "checkpoint", tiny_run, streets_store)
    (tmp_path / "checkpoint" / "dataset.json").unlink()
    with pytest.raises(checkpoints.CheckpointError, match=r"it lacks dataset\.json"):
        checkpoints.load_model(tmp_path / "checkpoint")


def test_what_tracking_keeps_is_enough_to_load_and_leaves_out_the_optimizer(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    save_checkpoint(tmp_path / "checkpoint", tiny_run, streets_store)
    with checkpoints.for_tracking(tmp_path / "checkpoint") as folder:
        shutil.copytree(folder, tmp_path / "kept")
    assert not (tmp_path / "kept" / checkpoints.TRAINING).exists()
    assert checkpoints.load_model(tmp_path / "kept").config == tiny_run
