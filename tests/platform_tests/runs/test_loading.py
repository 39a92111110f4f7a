import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gscnn_platform.config import ExperimentConfig
from gscnn_platform.data.disk_full import is_full
from gscnn_platform.data.store import Store
from gscnn_platform.runs.checkpoint import CHECKSUMS, CheckpointError, faults
from gscnn_platform.runs.loading import load_model, load_training_state
from tests.saved import save_checkpoint


def test_a_loaded_model_gives_the_logits_of_the_saved_one(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    model = save_checkpoint(tmp_path / "checkpoint", tiny_run, streets_store)
    loaded = load_model(tmp_path / "checkpoint")
    image, gradient = torch.randn(1, 3, 64, 96), torch.rand(1, 1, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.model(image, gradient), model(image, gradient), rtol=0, atol=0)
    assert loaded.config == tiny_run
    assert loaded.dataset == streets_store.manifest.identity
    assert loaded.metrics["val/miou"] == 0.25
    assert not loaded.model.training


def test_a_full_disk_is_recognized_in_all_of_torchs_errors(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store, small_disk: Callable[[int], Path]
) -> None:
    with pytest.raises((OSError, RuntimeError)) as caught:
        save_checkpoint(small_disk(1) / "checkpoint", tiny_run, streets_store)
    assert is_full(caught.value)
    assert not is_full(ValueError("another"))


def test_a_flipped_bit_and_a_missing_file_are_found_by_name(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    folder = tmp_path / "checkpoint"
    save_checkpoint(folder, tiny_run, streets_store)
    assert faults(folder) == []
    weights = bytearray((folder / "model.pt").read_bytes())
    weights[len(weights) // 2] ^= 1
    (folder / "model.pt").write_bytes(weights)
    (folder / "metrics.json").unlink()
    assert faults(folder) == ["metrics.json is missing", "model.pt is damaged"]
    with pytest.raises(CheckpointError, match=r"it lacks metrics\.json"):
        load_model(folder)
    (folder / CHECKSUMS).unlink()
    assert faults(folder) == ["checksums.json is missing"], "as of a checkpoint that is half written"


def test_the_state_of_a_damaged_checkpoint_is_rejected(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    save_checkpoint(tmp_path / "step-00000006", tiny_run, streets_store)
    (tmp_path / "step-00000006" / "training.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"step-00000006 cannot be used: training\.pt is damaged"):
        load_training_state(f"{tmp_path}/step-00000006")


def test_a_checkpoint_is_not_unpickled(tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store) -> None:
    save_checkpoint(tmp_path / "checkpoint", tiny_run, streets_store)
    torch.save({"weights": Path("an object of a class")}, tmp_path / "checkpoint" / "model.pt")
    sums = json.loads((tmp_path / "checkpoint" / "checksums.json").read_text())
    sums["model.pt"] = hashlib.sha256((tmp_path / "checkpoint" / "model.pt").read_bytes()).hexdigest()
    (tmp_path / "checkpoint" / "checksums.json").write_text(json.dumps(sums))
    with pytest.raises(Exception, match="Weights only load failed"):
        load_model(tmp_path / "checkpoint")


def test_a_folder_that_is_not_a_checkpoint_is_an_error_with_the_missing_files(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    with pytest.raises(CheckpointError, match="is not a folder"):
        load_model(tmp_path / "nowhere")
    save_checkpoint(tmp_path / "checkpoint", tiny_run, streets_store)
    (tmp_path / "checkpoint" / "dataset.json").unlink()
    with pytest.raises(CheckpointError, match=r"it lacks dataset\.json"):
        load_model(tmp_path / "checkpoint")
