"""The driver of a training run, without Ray and without a worker."""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from gscnn_platform import cluster, tracking
from gscnn_platform.config import ExperimentConfig, with_overrides
from gscnn_platform.data.disk_full import StorageError
from gscnn_platform.data.store import Store
from gscnn_platform.interrupts import InterruptedJobError
from gscnn_platform.runs.folder import RunFolder
from gscnn_platform.runs.record import RunRecord
from gscnn_platform.runs.ref import RunRef
from gscnn_platform.runs.resume import choose_run, wanted_run
from gscnn_platform.training import execution, trainer
from tests.saved import RUN_ID, save_checkpoint


def test_a_start_interrupted_after_its_mlflow_run_was_created_is_resumed_by_the_same_command(
    tiny_run: ExperimentConfig, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise InterruptedJobError(signal.SIGINT, "now")

    monkeypatch.setattr(cluster, "check_can_connect", lambda: None)
    monkeypatch.setattr(cluster, "connect", lambda: None)
    monkeypatch.setattr(execution, "resources", lambda config: (False, 1))
    monkeypatch.setattr(trainer, "void_notices", interrupted)
    config = with_overrides(tiny_run, {"storage": str(storage), "run_name": None, "model.weights": None})
    with pytest.raises(InterruptedJobError):
        trainer.run_training(config)
    [folder] = [RunFolder(str(path)) for path in storage.iterdir() if path.name.startswith("streets-")]
    left = folder.read(RunRecord)
    assert left is not None
    assert choose_run(wanted_run(config, left.fingerprint), str(storage)) == (folder, left)
    assert tracking.fate_of(left.tracking_uri, left.run_id) == "active"


@pytest.mark.parametrize("free", [50_000, 1_500_000], ids=["no room for a file", "no room for the model"])
def test_a_disk_without_room_for_the_best_model_is_an_error_and_the_same_call_works_once_there_is_space(
    tiny_run: ExperimentConfig, streets_store: Store, tmp_path: Path, small_disk: Callable[[int], Path], free: int
) -> None:
    save_checkpoint(tmp_path / "best", tiny_run, streets_store)
    disk = small_disk(64)
    run = RunRef(disk / "tracking", f"sqlite:///{tmp_path}/mlflow.db", RUN_ID)
    run.outbox.mkdir()
    (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free - free))
    with pytest.raises(StorageError, match=f"best model cannot be saved .* disk of {run.outbox} .* rerun the command"):
        trainer.log_best(run, str(tmp_path / "best"))
    (disk / "filler").unlink()
    trainer.log_best(run, str(tmp_path / "best"))
    assert tracking.left_in(run.outbox).waiting


def test_what_a_model_of_timm_does_not_offer_is_an_error_before_ray_starts(
    tiny_run: ExperimentConfig, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "check_can_connect", lambda: None)
    monkeypatch.setattr(cluster, "connect", lambda: pytest.fail("Ray was started"))
    model = {"model.backbone": "timm/swin_s3_tiny_224", "model.output_stride": 16, "model.weights": None}
    config = with_overrides(tiny_run, {"storage": str(storage), "run_name": None, **model})
    with pytest.raises(ValueError, match=r"`model\.output_stride` is 16: timm/swin_s3_tiny_224 offers 32"):
        trainer.run_training(config)
    assert [path for path in storage.glob("*") if path.name.startswith("streets-")] == []


@pytest.mark.parametrize("has_checkpoint", [True, False])
def test_only_a_run_without_a_checkpoint_needs_the_pretrained_weights_when_it_resumes(
    tiny_run: ExperimentConfig,
    streets_store: Store,
    storage: Path,
    monkeypatch: pytest.MonkeyPatch,
    has_checkpoint: bool,
) -> None:
    def unavailable(*_: object) -> None:
        raise ValueError("no ImageNet weights")

    def interrupted() -> None:
        raise InterruptedJobError(signal.SIGINT, "now")

    changes = {"storage": str(storage), "run_name": "run", "model.backbone": "resnet18", "model.weights": "imagenet"}
    config = with_overrides(tiny_run, changes)
    if has_checkpoint:
        save_checkpoint(
            storage / "run" / "step-00000003", with_overrides(config, {"model.weights": None}), streets_store
        )
    fingerprint = streets_store.manifest.fingerprint
    uri = f"sqlite:///{storage}/mlflow.db"
    record = RunRecord(
        name="run", config=config, fingerprint=fingerprint, run_id=RUN_ID, tracking_uri=uri, state="failed"
    )
    RunFolder.of(str(storage), "run").write(record)
    monkeypatch.setattr(cluster, "check_can_connect", lambda: None)
    monkeypatch.setattr(cluster, "connect", interrupted)
    monkeypatch.setattr(trainer.gscnn, "build_model", unavailable)
    with pytest.raises(
        InterruptedJobError if has_checkpoint else ValueError, match=None if has_checkpoint else "ImageNet"
    ):
        trainer.run_training(config)


def test_a_model_that_torch_cannot_export_ends_its_run_with_a_note_and_its_checkpoint_is_tracked(
    tiny_run: ExperimentConfig, streets_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise ValueError("no such op\nand a long graph")

    lines: list[str] = []
    monkeypatch.setattr("gscnn_platform.tracking.runs._save_program", failing)
    monkeypatch.setattr(trainer, "say", lines.append)
    save_checkpoint(tmp_path / "best", tiny_run, streets_store)
    run = RunRef(tmp_path / "tracking", f"sqlite:///{tmp_path}/mlflow.db", RUN_ID)
    trainer.log_best(run, str(tmp_path / "best"))
    assert lines == [
        "note: MLflow gets the best checkpoint and no model to load, because torch cannot export it: no such op"
    ]
    kept = {path.name for path in run.outbox.rglob("*") if path.is_file()}
    assert "model.pt" in kept and "MLmodel" not in kept
