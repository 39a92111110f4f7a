import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from gscnn.model import build_model
from gscnn_platform.config import ExperimentConfig
from gscnn_platform.data.disk_full import is_full
from gscnn_platform.data.store import Store
from gscnn_platform.remote_errors import RemoteError
from gscnn_platform.training import checkpoints, resume
from tests.saved import content_of, save_checkpoint


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


def names(run: Path) -> list[str]:
    return sorted(path.name for path in run.iterdir())


def test_a_run_keeps_its_last_two_checkpoints_and_its_best_one(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    run, model = tmp_path / "run", build_model(tiny_run.model)
    for step, miou in ((3, 0.3), (6, 0.6), (9, 0.1), (12, 0.2)):
        content = content_of(model, tiny_run, streets_store, miou)
        checkpoints.keep(str(run), step, content, best=miou in (0.3, 0.6))
    assert names(run) == ["best-00000006", "step-00000009", "step-00000012"]
    assert checkpoints.load_model(run).metrics["val/miou"] == 0.6
    assert checkpoints.load_model(run.as_uri()).metrics["val/miou"] == 0.6
    assert checkpoints.load_model(run / "step-00000009").metrics["val/miou"] == 0.1
    assert not (run / "best-00000006" / checkpoints.TRAINING).exists()


def test_what_followed_a_damaged_checkpoint_is_superseded_by_the_step_that_is_done_again(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    for step in (4, 8, 12):
        save_checkpoint(tmp_path / f"step-{step:08d}", tiny_run, streets_store)
    content = content_of(build_model(tiny_run.model), tiny_run, streets_store)
    checkpoints.keep(str(tmp_path), 8, content, best=False)
    assert names(tmp_path) == ["step-00000004", "step-00000008"]


def test_a_write_that_was_cut_short_counts_for_nothing(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    for name in ("step-00000003", "best-00000003"):
        save_checkpoint(tmp_path / name, tiny_run, streets_store)
    for name in ("step-00000006", "best-00000006"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.pt").write_bytes(b"half of it")
    assert checkpoints.steps_of_run(str(tmp_path)) == ["step-00000003"]
    assert checkpoints.best_of_run(str(tmp_path)) == f"{tmp_path}/best-00000003"
    content = content_of(build_model(tiny_run.model), tiny_run, streets_store)
    checkpoints.keep(str(tmp_path), 6, content, best=True)
    assert names(tmp_path) == ["best-00000006", "step-00000003", "step-00000006"]
    assert checkpoints.faults(tmp_path / "step-00000006") == []


def test_a_remote_storage_gets_the_same_files(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = content_of(build_model(tiny_run.model), tiny_run, streets_store)
    checkpoints.keep(str(tmp_path / "here"), 3, content, best=True)
    monkeypatch.setattr(checkpoints, "LocalFileSystem", type("Never", (), {}))
    checkpoints.keep((tmp_path / "there").as_uri(), 3, content, best=True)
    for name in ("step-00000003", "best-00000003"):
        assert names(tmp_path / "here" / name) == names(tmp_path / "there" / name)
        assert checkpoints.faults(tmp_path / "there" / name) == []


def test_a_clone_goes_on_from_the_other_runs_checkpoint_alone(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    save_checkpoint(tmp_path / "donor" / "step-00000006", tiny_run, streets_store, miou=0.5)
    for step in (3, 6, 9):
        save_checkpoint(tmp_path / "run" / f"step-{step:08d}", tiny_run, streets_store, miou=0.1)
    checkpoints.clone(str(tmp_path / "donor" / "step-00000006"), str(tmp_path / "run"))
    assert names(tmp_path / "run") == ["step-00000006"]
    assert checkpoints.metrics_of(f"{tmp_path}/run/step-00000006")["val/miou"] == 0.5
    assert checkpoints.load_training_state(f"{tmp_path}/run/step-00000006") == {"epoch": 3}


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


def test_the_state_of_a_damaged_checkpoint_is_refused(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    save_checkpoint(tmp_path / "step-00000006", tiny_run, streets_store)
    (tmp_path / "step-00000006" / "training.pt").write_bytes(b"")
    with pytest.raises(checkpoints.CheckpointError, match=r"step-00000006 cannot be used: training\.pt is damaged"):
        checkpoints.load_training_state(f"{tmp_path}/step-00000006")


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
    with pytest.raises(checkpoints.CheckpointError, match="is not a folder"):
        checkpoints.load_model(tmp_path / "nowhere")
    save_checkpoint(tmp_path / "checkpoint", tiny_run, streets_store)
    (tmp_path / "checkpoint" / "dataset.json").unlink()
    with pytest.raises(checkpoints.CheckpointError, match=r"it lacks dataset\.json"):
        checkpoints.load_model(tmp_path / "checkpoint")


@pytest.mark.parametrize("module", [checkpoints, resume])
def test_a_store_that_does_not_answer_is_named_where_a_run_is_looked_for(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: object) -> object:
        raise OSError("AWS Error NETWORK_CONNECTION during ListObjectsV2 operation")

    monkeypatch.setattr(module, "filesystem_of", lambda uri: (SimpleNamespace(get_file_info=fails), "bucket/runs/a"))
    looks: dict[ModuleType, Callable[[str], object]] = {
        checkpoints: checkpoints.best_of_run,
        resume: lambda uri: resume.folders_in(uri, ""),
    }
    with pytest.raises(RemoteError, match="NETWORK_CONNECTION") as caught:
        looks[module]("s3://bucket/runs/a")
    assert caught.value.filename == "s3://bucket/runs/a"
