"""The driver of a training run, without Ray and without a worker."""

import signal
from pathlib import Path

import pytest

from gscnn_platform import cluster, tracking
from gscnn_platform.config import ExperimentConfig, with_overrides
from gscnn_platform.interrupts import InterruptedJobError
from gscnn_platform.runs.folder import RunFolder
from gscnn_platform.runs.record import RunRecord
from gscnn_platform.runs.resume import choose_run, wanted_run
from gscnn_platform.training import execution, trainer


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
