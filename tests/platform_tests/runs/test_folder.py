from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from gscnn.model import build_model
from gscnn_platform.config import ExperimentConfig
from gscnn_platform.data.store import Store
from gscnn_platform.remote_errors import RemoteError
from gscnn_platform.runs import folder as folders
from gscnn_platform.runs.checkpoint import TRAINING, faults
from gscnn_platform.runs.folder import RunFolder, runs_in
from gscnn_platform.runs.loading import load_model, load_training_state, metrics_of
from tests.saved import content_of, save_checkpoint


def names(run: Path) -> list[str]:
    return sorted(path.name for path in run.iterdir())


def test_a_run_keeps_its_last_two_checkpoints_and_its_best_one(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    run, model = tmp_path / "run", build_model(tiny_run.model)
    for step, miou in ((3, 0.3), (6, 0.6), (9, 0.1), (12, 0.2)):
        content = content_of(model, tiny_run, streets_store, miou)
        RunFolder(str(run)).keep(step, content, best=miou in (0.3, 0.6))
    assert names(run) == ["best-00000006", "step-00000009", "step-00000012"]
    assert load_model(run).metrics["val/miou"] == 0.6
    assert load_model(run.as_uri()).metrics["val/miou"] == 0.6
    assert load_model(run / "step-00000009").metrics["val/miou"] == 0.1
    assert not (run / "best-00000006" / TRAINING).exists()


def test_checkpoints_after_a_damaged_one_are_replaced_by_the_repeated_step(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    for step in (4, 8, 12):
        save_checkpoint(tmp_path / f"step-{step:08d}", tiny_run, streets_store)
    content = content_of(build_model(tiny_run.model), tiny_run, streets_store)
    RunFolder(str(tmp_path)).keep(8, content, best=False)
    assert names(tmp_path) == ["step-00000004", "step-00000008"]


def test_an_interrupted_write_is_not_a_checkpoint(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    for name in ("step-00000003", "best-00000003"):
        save_checkpoint(tmp_path / name, tiny_run, streets_store)
    for name in ("step-00000006", "best-00000006"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.pt").write_bytes(b"half of it")
    assert RunFolder(str(tmp_path)).steps() == ["step-00000003"]
    assert RunFolder(str(tmp_path)).best() == f"{tmp_path}/best-00000003"
    content = content_of(build_model(tiny_run.model), tiny_run, streets_store)
    RunFolder(str(tmp_path)).keep(6, content, best=True)
    assert names(tmp_path) == ["best-00000006", "step-00000003", "step-00000006"]
    assert faults(tmp_path / "step-00000006") == []


def test_remote_storage_gets_the_same_files(tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store) -> None:
    content = content_of(build_model(tiny_run.model), tiny_run, streets_store)
    RunFolder(str(tmp_path / "here")).keep(3, content, best=True)
    RunFolder((tmp_path / "there").as_uri()).keep(3, content, best=True)
    for name in ("step-00000003", "best-00000003"):
        assert names(tmp_path / "here" / name) == names(tmp_path / "there" / name)
        assert faults(tmp_path / "there" / name) == []


def test_a_clone_resumes_only_from_the_other_runs_checkpoint(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    save_checkpoint(tmp_path / "donor" / "step-00000006", tiny_run, streets_store, miou=0.5)
    for step in (3, 6, 9):
        save_checkpoint(tmp_path / "run" / f"step-{step:08d}", tiny_run, streets_store, miou=0.1)
    RunFolder(str(tmp_path / "run")).clone(RunFolder(str(tmp_path / "donor")))
    assert names(tmp_path / "run") == ["step-00000006"]
    assert metrics_of(f"{tmp_path}/run/step-00000006")["val/miou"] == 0.5
    assert load_training_state(f"{tmp_path}/run/step-00000006") == {"epoch": 3}


@pytest.mark.parametrize("look", [lambda uri: RunFolder(uri).best(), lambda uri: runs_in(uri, "")])
def test_storage_that_does_not_answer_is_reported_when_looking_for_a_run(
    look: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: object) -> object:
        raise OSError("AWS Error NETWORK_CONNECTION during ListObjectsV2 operation")

    monkeypatch.setattr(folders, "filesystem_of", lambda uri: (SimpleNamespace(get_file_info=fails), "bucket/runs/a"))
    with pytest.raises(RemoteError, match="NETWORK_CONNECTION") as caught:
        look("s3://bucket/runs/a")
    assert caught.value.filename == "s3://bucket/runs/a"


def test_a_folder_has_the_storage_and_name_that_it_was_created_with() -> None:
    for storage in ("/data/runs", "s3://bucket/runs", "s3://bucket"):
        folder = RunFolder.of(storage, "a run")
        assert (folder.storage, folder.name, str(folder)) == (storage, "a run", f"{storage}/a run")
        assert folder.trial("trial-000").storage == folder.location


def test_an_outbox_is_beside_local_checkpoints_or_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert RunFolder("/data/runs/mine").outbox == Path("/data/runs/mine/tracking")
    remote = [RunFolder.of(storage, "mine").outbox for storage in ("s3://bucket/runs", "s3://other/runs")]
    # The first 8 digits of `printf s3://bucket/runs | sha256sum`.
    assert remote[0] == tmp_path / "gscnn-runs" / "outbox" / "mine-0863ef5c"
    assert len(set(remote)) == 2
