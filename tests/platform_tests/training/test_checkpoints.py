import shutil
from pathlib import Path

import pytest
import torch

from gscnn.model import build_model
from gscnn_platform.config import ExperimentConfig
from gscnn_platform.data.store import Store
from gscnn_platform.training import checkpoints


def save(folder: Path, config: ExperimentConfig, store: Store, miou: float = 0.25) -> torch.nn.Module:
    folder.mkdir(parents=True)
    model = build_model(config.model).eval()
    checkpoints.save(
        folder,
        weights=model.state_dict(),
        training_state={"epoch": 3},
        config=config,
        dataset=store.manifest.identity,
        metrics={"val/miou": miou, "epoch": 3},
        run_id="0" * 32,
    )
    return model


def test_a_loaded_model_gives_the_logits_of_the_saved_one(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    model = save(tmp_path / "checkpoint", tiny_run, streets_store)
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
        save(tmp_path / "run" / name, tiny_run, streets_store, miou)
    assert checkpoints.load_model(tmp_path / "run").metrics["val/miou"] == 0.6


def test_a_checkpoint_is_not_unpickled(tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store) -> None:
    save(tmp_path / "checkpoint", tiny_run, streets_store)
    torch.save({"weights": Path("an object of a class")}, tmp_path / "checkpoint" / "model.pt")
    with pytest.raises(Exception, match="Weights only load failed"):
        checkpoints.load_model(tmp_path / "checkpoint")


def test_a_folder_that_is_no_checkpoint_is_an_error_that_names_what_is_missing(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    with pytest.raises(checkpoints.CheckpointError, match="is no folder"):
        checkpoints.load_model(tmp_path / "nowhere")
    save(tmp_path / "checkpoint", tiny_run, streets_store)
    (tmp_path / "checkpoint" / "dataset.json").unlink()
    with pytest.raises(checkpoints.CheckpointError, match=r"it lacks dataset\.json"):
        checkpoints.load_model(tmp_path / "checkpoint")


def test_what_tracking_keeps_is_enough_to_load_and_leaves_out_the_optimizer(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    save(tmp_path / "checkpoint", tiny_run, streets_store)
    with checkpoints.for_tracking(tmp_path / "checkpoint") as folder:
        shutil.copytree(folder, tmp_path / "kept")
    assert not (tmp_path / "kept" / checkpoints.TRAINING).exists()
    assert checkpoints.load_model(tmp_path / "kept").config == tiny_run
