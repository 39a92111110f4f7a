import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ray.train import Checkpoint

from gscnn_platform.config import ExperimentConfig
from gscnn_platform.data.storage import is_full
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
    run = tmp_path / "run"
    save_checkpoint(run / "step-00000009", tiny_run, streets_store, miou=0.1)
    for step, miou in ((3, 0.3), (6, 0.6)):
        save_checkpoint(tmp_path / f"saved-{step}", tiny_run, streets_store, miou)
        checkpoints.keep_best(tmp_path / f"saved-{step}", str(run), step)
    assert sorted(path.name for path in run.iterdir()) == ["best-00000006", "step-00000009"]
    assert checkpoints.load_model(run).metrics["val/miou"] == 0.6
    assert checkpoints.load_model(run.as_uri()).metrics["val/miou"] == 0.6
    assert checkpoints.load_model(run / "step-00000009").metrics["val/miou"] == 0.1


def test_a_best_checkpoint_whose_copy_was_cut_short_counts_for_nothing(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    run = tmp_path / "run"
    save_checkpoint(run / "best-00000003", tiny_run, streets_store)
    (run / "best-00000006").mkdir()
    (run / "best-00000006" / "model.pt").write_bytes(b"half of it")
    assert checkpoints.best_of_run(str(run)) == f"{run}/best-00000003"


def test_checkpoints_that_ray_never_heard_of_are_those_of_later_steps(tmp_path: Path) -> None:
    for name in (
        "step-00000004-aaaa",
        "step-00000008-bbbb",
        "step-00000008-cccc",
        "step-00000012-dddd",
        "best-00000012",
    ):
        (tmp_path / name).mkdir()
    newest = Checkpoint(str(tmp_path / "step-00000008-bbbb"))
    assert checkpoints.after(str(tmp_path), newest) == ["step-00000012-dddd"]
    assert len(checkpoints.after(str(tmp_path), None)) == 4
    checkpoints.discard(str(tmp_path), "step-00000012-dddd", "step-00000016-gone")
    assert not (tmp_path / "step-00000012-dddd").exists()


def test_a_full_disk_is_known_for_one_however_torch_says_it(
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
    assert checkpoints.faults(folder) == []
    weights = bytearray((folder / "model.pt").read_bytes())
    weights[len(weights) // 2] ^= 1
    (folder / "model.pt").write_bytes(weights)
    (folder / "metrics.json").unlink()
    assert checkpoints.faults(folder) == ["metrics.json is missing", "model.pt is damaged"]
    with pytest.raises(checkpoints.CheckpointError, match=r"it lacks metrics\.json"):
        checkpoints.load_model(folder)
    (folder / checkpoints.CHECKSUMS).unlink()
    assert checkpoints.faults(folder) == ["checksums.json is missing"], "as of a checkpoint that is half written"


def test_the_checkpoints_before_the_newest_stand_in_for_it_newest_first(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    for step in (6, 2, 4, 8):
        save_checkpoint(tmp_path / f"step-{step:08d}", tiny_run, streets_store)
    save_checkpoint(tmp_path / "best-00000004", tiny_run, streets_store)
    found = checkpoints.resumable(Checkpoint(str(tmp_path / "step-00000006")))
    assert [Path(each.path).name for each in found] == ["step-00000006", "step-00000004", "step-00000002"]
    (tmp_path / "step-00000006" / "training.pt").write_bytes(b"")
    with pytest.raises(checkpoints.CheckpointError, match=r"step-00000006 cannot be used: training\.pt is damaged"):
        checkpoints.load_training_state(found[0])
    assert checkpoints.load_training_state(found[1]) == {"epoch": 3}


def test_a_checkpoint_is_not_unpickled(tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store) -> None:
    save_checkpoint(tmp_path / "checkpoint", tiny_run, streets_store)
    torch.save({"weights": Path("an object of a class")}, tmp_path / "checkpoint" / "model.pt")
    sums = json.loads((tmp_path / "checkpoint" / "checksums.json").read_text())
    sums["model.pt"] = hashlib.sha256((tmp_path / "checkpoint" / "model.pt").read_bytes()).hexdigest()
    (tmp_path / "checkpoint" / "checksums.json").write_text(json.dumps(sums))
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
