"""The jobs as a user runs them: command line in, files and MLflow run out."""

import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import mlflow
import numpy as np
import pytest
import torch

from gscnn_platform.data.loader import whole_images
from gscnn_platform.data.store import Store, open_store
from gscnn_platform.evaluation import evaluate as evaluate_model
from gscnn_platform.runs.loading import load_model
from jobs import evaluate, precompute, predict, train

CPU = torch.device("cpu")

SMALL = {
    "augmentation.crop": (64, 64),
    "training.epochs": 2,
    "training.batch-size": 4,
    "training.log-every": 2,
    "training.validate-every": 1,
    "model.aspp-channels": 8,
    "model.low-level-channels": 8,
    "model.shape-widths": (8, 8, 8, 8),
}
"""A training of seconds."""


def flags(values: dict[str, Any]) -> list[str]:
    """`{"a.b": (1, 2)}` -> `--a.b 1 2`."""
    return [
        word
        for key, value in values.items()
        for word in (f"--{key}", *map(str, value if isinstance(value, tuple) else (value,)))
    ]


def run(job: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [job.__name__, *map(str, arguments)])
    job.main()


def failing(
    job: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> str:
    """What the job prints to stderr as it ends with status 1."""
    with pytest.raises(SystemExit) as stopped:
        run(job, monkeypatch, *arguments)
    assert stopped.value.code == 1
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jobs")


@pytest.mark.usefixtures("ray_cluster")
def test_the_whole_path_from_drawn_scenes_to_a_tracked_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    sizes = {"height": 64, "width": 96, "train": 10, "val": 5, "test": 1}
    size = flags({f"format.{key}": value for key, value in sizes.items()})
    run(precompute, monkeypatch, "streets", "--out", "store", *size)
    run(precompute, monkeypatch, "streets", "--out", "store", *size)
    assert "unchanged, nothing to do" in capfd.readouterr().out
    run(train, monkeypatch, "streets", "--store", "store", "--num-workers", 2, "--run-name", "mine", *flags(SMALL))
    printed = capfd.readouterr().out
    assert "10 samples in 3 steps of 4; the last step repeats 2 of them" in printed
    assert "mlflow ui --backend-store-uri" in printed

    uri = f"sqlite:///{folder}/runs/mlflow.db"
    client = mlflow.MlflowClient(uri)
    [experiment] = client.search_experiments(filter_string="name = 'gscnn'")
    [found] = client.search_runs([experiment.experiment_id])
    assert (found.info.status, found.info.run_name) == ("FINISHED", "mine")
    steps = [metric.step for metric in client.get_metric_history(found.info.run_id, "train/edge")]
    assert steps == [1, 2, 3, 4, 5, 6], "every optimizer step once, by rank 0 alone"
    scores = {metric.step: metric.value for metric in client.get_metric_history(found.info.run_id, "val/miou")}
    assert list(scores) == [0, 1, 2]
    pictures = [file.path for file in client.list_artifacts(found.info.run_id, "validation")]
    assert pictures == [*(f"validation/epoch-{epoch:03d}.png" for epoch in (0, 1, 2)), "validation/last.jpg"]
    assert found.outputs is not None
    assert found.outputs.model_outputs

    loaded, store = load_model(folder / "runs" / "mine"), open_store(folder / "store")
    assert loaded.run_id == found.info.run_id
    alone = evaluate_model(loaded.model, whole_images(store.split("val")), store.manifest.identity.classes, CPU)
    assert loaded.metrics["val/miou"] == max(scores[1], scores[2])
    assert alone.scores.miou == pytest.approx(loaded.metrics["val/miou"], abs=1e-6), "two workers count what one does"

    run(evaluate, monkeypatch, "--checkpoint", found.info.run_id, "--store", "store", "--split", "val")
    table = capfd.readouterr().out
    assert re.search(rf"^mean +{alone.scores.miou:.3f} ", table, re.M)
    evaluated = client.get_run(found.info.run_id).data
    assert evaluated.metrics["val_evaluated/miou"] == pytest.approx(alone.scores.miou)
    assert np.isfinite(evaluated.metrics["train/images_per_second"])
    for radius, of_radius in alone.whole.boundary.compute().items():
        key = f"boundary_f_{radius}px"
        assert evaluated.metrics[f"val_evaluated/{key}"] == pytest.approx(of_radius["official"])
        assert loaded.metrics[f"val/{key}"] == pytest.approx(of_radius["official"], abs=1e-6)
    curve = client.get_metric_history(found.info.run_id, "val_evaluated_distance/miou")
    assert [metric.step for metric in curve] == [0, 100, 200, 300]
    files = [file.path for file in client.list_artifacts(found.info.run_id, "evaluation")]
    assert files == ["evaluation/val.html", "evaluation/val.json", "evaluation/val.txt"]
    assert "evaluation/val.html" in evaluated.tags["mlflow.note.content"]
    [page] = Path("runs/evaluation").iterdir()
    assert page.name == f"mine-{found.info.run_id[:6]}-val.html"

    images = folder / "images"
    images.mkdir()
    for index in range(3):
        assert cv2.imwrite(str(images / f"{index}.png"), store.split("val").read(index).image[..., ::-1])
    (images / "broken.png").write_bytes(b"no image")
    to_predict = ("--checkpoint", "runs/mine", "--input", "images", "--out", "predicted")
    run(predict, monkeypatch, *to_predict)
    printed = capfd.readouterr().out
    assert "3 images -> " in printed
    assert "1 files could not be read" in printed
    assert f"{images}/broken.png" in printed
    for kind in ("label", "colour", "edge", "overlay"):
        assert sorted(file.name for file in (folder / "predicted" / kind).iterdir()) == ["0.png", "1.png", "2.png"]
    summary = json.loads((folder / "predicted/predictions.json").read_text())
    assert summary["settings"]["run_id"] == found.info.run_id
    assert list(summary["unreadable"]) == [f"{images}/broken.png"]
    assert "pictures exist already" in failing(predict, monkeypatch, capfd, *to_predict)

    run_again = ("streets", "--store", "store", "--run-name", "mine", *flags(SMALL))
    assert "--run-name 'mine' is already used" in failing(train, monkeypatch, capfd, *run_again)
    too_many = ("streets", "--store", "store", "--num-workers", 64, "--training.batch-size", 128)
    assert "--num-workers 64 needs 64 x 1 CPU, and the cluster has" in failing(train, monkeypatch, capfd, *too_many)

    sick = ("streets", "--store", "store", "--run-name", "sick", *flags(SMALL), "--optimizer.lr", "1e30")
    assert "loss or gradient is not finite. worker 0: " in failing(train, monkeypatch, capfd, *sick)
    runs = client.search_runs([found.info.experiment_id], "attributes.run_name = 'sick'")
    assert runs[0].info.status == "FAILED"
    assert "NonFiniteLossError" in runs[0].data.tags["failure"]


def test_bad_input_ends_in_the_first_seconds_with_the_way_out(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    streets_store: Store,
) -> None:
    store = streets_store.path

    def message(job: ModuleType, *arguments: object) -> str:
        return failing(job, monkeypatch, capsys, *arguments)

    assert "--store is missing" in message(train, "streets")
    assert "is not a store, there is no such folder" in message(train, "streets", "--store", tmp_path / "no")
    assert "add --model.num-classes 9" in message(train, "camvid-tiny", "--store", store)
    stale = message(train, "streets", "--store", store, "--data.edges.radius", 5)
    assert "edges.radius is 2 in the store, expected 5; run: python -m jobs.precompute streets" in stale
    assert "add --root" in message(precompute, "camvid", "--out", tmp_path / "out")
    assert "camvid" in message(precompute, "camvid", "--root", tmp_path / "no", "--out", tmp_path / "out")
    assert "is not a folder" in message(evaluate, "--checkpoint", tmp_path / "no", "--store", store)
