"""A run in this process with store and checkpoints on an object store; tests/faults has it with Ray Train."""

import hashlib
import threading
from pathlib import Path

import pytest
import torch

from gscnn.model import build_model
from gscnn_platform.config import EvaluateConfig, ExperimentConfig, TrackingConfig, with_overrides
from gscnn_platform.data.disk_full import StorageError
from gscnn_platform.data.store import Store
from gscnn_platform.paths import AnyPath, as_path, below
from gscnn_platform.reporting.checkpoint_evaluation import evaluate_checkpoint
from gscnn_platform.runs.alive import alive
from gscnn_platform.runs.checkpoint import CHECKSUMS, MODEL, TRAINING, CheckpointError
from gscnn_platform.runs.folder import ALIVE, RunFolder
from gscnn_platform.runs.loading import load_model, load_training_state, metrics_of
from gscnn_platform.runs.record import RECORD, ResumeError, RunRecord
from gscnn_platform.runs.resume import choose_run, wanted_run
from gscnn_platform.training.trainer import Trial, run_training
from tests.s3 import Endpoint, Mode
from tests.saved import content_of, save_checkpoint


def names(run: str) -> list[str]:
    return sorted(path.name for path in as_path(run).iterdir())


def put(store: Store, to: AnyPath) -> str:
    assert isinstance(store.path, Path)
    for file in store.path.rglob("*.*"):
        (to / str(below(file, store.path))).write_bytes(file.read_bytes())
    return str(to)


@pytest.mark.usefixtures("ray_cluster")
def test_a_run_on_an_object_store_with_temporary_failures_has_the_weights_of_a_local_one(
    tiny_run: ExperimentConfig,
    streets_store: Store,
    remote: str,
    s3: Endpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    def weights_of(storage: str, store: str, outage: bool) -> str:
        def tell(scores: dict[str, float]) -> None:
            if outage and scores["epoch"] == 1:
                s3.mode = Mode.OVERLOADED
                threading.Timer(7, s3.recover).start()

        changes = {
            "store": store,
            "storage": storage,
            "run_name": "run",
            "tracking.uri": f"sqlite:///{tmp_path}/mlflow.db",
            "data.cache.gigabytes": 0,
            "cpus_per_worker": 1,
        }
        result = run_training(with_overrides(tiny_run, changes), Trial(tags={}, tell=tell))
        assert result.last_checkpoint == f"{storage}/run/step-00000006"
        assert load_model(result.best_checkpoint).metrics["val/miou"] == result.best_metrics["val/miou"]
        return hashlib.sha256((as_path(result.last_checkpoint) / MODEL).read_bytes()).hexdigest()

    here = weights_of(str(tmp_path / "runs"), str(streets_store.path), outage=False)
    there = weights_of(f"{remote}/runs", put(streets_store, as_path(remote) / "store"), outage=True)
    assert there == here
    assert ALIVE not in names(f"{remote}/runs/run")


def test_checkpoints_on_an_object_store_behave_as_on_a_disk(
    tiny_run: ExperimentConfig, streets_store: Store, remote: str
) -> None:
    run, model = RunFolder(f"{remote}/runs/mine"), build_model(tiny_run.model).eval()
    for step, miou in ((3, 0.3), (6, 0.6), (9, 0.1), (12, 0.2)):
        run.keep(step, content_of(model, tiny_run, streets_store, miou), best=miou in (0.3, 0.6))
    assert names(run.location) == ["best-00000006", "step-00000009", "step-00000012"]
    assert run.steps() == ["step-00000012", "step-00000009"]
    assert metrics_of(run.at("step-00000009"))["val/miou"] == 0.1
    loaded = load_model(run.location)
    image, gradient = torch.randn(1, 3, 64, 96), torch.rand(1, 1, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.model(image, gradient), model(image, gradient), rtol=0, atol=0)
    RunFolder(f"{remote}/runs/other").clone(run)
    assert names(f"{remote}/runs/other") == ["step-00000012"]
    file = run.path / "step-00000012" / TRAINING
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"training\.pt is damaged"):
        load_training_state(run.at("step-00000012"))
    (run.path / "step-00000012" / CHECKSUMS).unlink()
    assert run.steps() == ["step-00000009"]


def test_an_evaluation_by_uri_has_the_counts_of_a_local_one(
    tiny_run: ExperimentConfig, streets_store: Store, remote: str, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "checkpoint", tiny_run, streets_store)
    for file in (tmp_path / "checkpoint").iterdir():
        (as_path(remote) / "checkpoint" / file.name).write_bytes(file.read_bytes())
    tables = [
        evaluate_checkpoint(
            EvaluateConfig(
                checkpoint=f"{place}/checkpoint",
                store=store,
                report=str(tmp_path / "page.html"),
                tracking=TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db"),
            )
        )
        .models[0]
        .report.table()
        for place, store in ((tmp_path, str(streets_store.path)), (remote, put(streets_store, as_path(remote) / "s")))
    ]
    assert tables[0] == tables[1]


def test_a_run_on_an_object_store_is_found_to_resume(tiny_run: ExperimentConfig, remote: str) -> None:
    config = tiny_run.model_copy(update={"run_name": "mine"})
    wanted, folder = wanted_run(config, "data"), RunFolder.of(remote, "mine")
    assert choose_run(wanted, remote) == (folder, None)
    record = RunRecord(
        name="mine", config=config, fingerprint="data", tracking_uri="sqlite:///x", run_id="0" * 32, state="stopped"
    )
    folder.write(record)
    assert choose_run(wanted, remote) == (folder, record)
    assert choose_run(wanted_run(tiny_run.model_copy(update={"name": "mine"}), "data"), remote)[1] is None
    with alive(folder), pytest.raises(ResumeError, match="'mine' is running: process"):
        choose_run(wanted, remote)
    assert names(f"{remote}/mine") == [RECORD]


def test_storage_that_cannot_be_used_is_an_error_before_anything_is_started(
    tiny_run: ExperimentConfig, s3: Endpoint
) -> None:
    def start(storage: str) -> None:
        run_training(tiny_run.model_copy(update={"storage": storage, "cpus_per_worker": 1}), Trial({}, lambda _: None))

    with pytest.raises(StorageError, match=r"--storage s3://no-such-bucket/x cannot be used: .*NO_SUCH_BUCKET"):
        start("s3://no-such-bucket/x")
    with s3.failing(Mode.REFUSE), pytest.raises(StorageError, match="--storage s3://bucket/x cannot be used: "):
        start("s3://bucket/x")
    with pytest.raises(ValueError, match="nope://x cannot be used"):
        start("nope://x")
