"""A file under the released key names through jobs.evaluate, jobs.predict and jobs.compare, tracked in MLflow."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gscnn.batch import normalize
from gscnn.edges import image_gradient
from gscnn.metrics import ConfusionMatrix
from gscnn.released_weights import released_edge_prior
from gscnn_platform.config import EdgeConfig, EvaluateConfig, PredictConfig
from gscnn_platform.data.formats.cityscapes import Cityscapes
from gscnn_platform.data.store import Store
from gscnn_platform.prediction import predict
from gscnn_platform.reporting.checkpoint_evaluation import evaluate_checkpoint
from gscnn_platform.reporting.tracked_runs import compare_runs
from gscnn_platform.tracking import TrackingError, find_run_of_file, read_run
from gscnn_platform.weight_files import sha256_of
from tests.layouts import write_cityscapes, write_image
from tests.stores import build_store
from tests.weights import prefixed, released_network, released_weights, saved


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("released")
    return saved(folder / "checkpoint.pth", {"state_dict": prefixed(released_weights())})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("cityscapes")
    return build_store(folder / "store", Cityscapes(), write_cityscapes(folder / "raw", frames=1))


def labels_of(image: np.ndarray) -> torch.Tensor:
    """The train ids that the released network predicts with the prior that it was trained with."""
    pixels = normalize(torch.from_numpy(image.copy()).permute(2, 0, 1))[None]
    with torch.no_grad():
        return released_network()(pixels, released_edge_prior(pixels))[0].argmax(dim=1)[0].to(torch.uint8)


def agreement(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Share of equal pixels: two classes may have logits that are equal but for rounding."""
    return float((ours == theirs).mean())


def test_its_evaluation_counts_what_the_released_network_predicts_and_can_be_compared(
    tmp_path: Path, released: Path, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/runs/mlflow.db"
    (tmp_path / "runs").mkdir()
    with pytest.raises(TrackingError):
        find_run_of_file(uri, str(released), sha256_of(released))
    found = evaluate_checkpoint(EvaluateConfig(checkpoint=str(released), store=str(store.path)))
    [model] = found.models
    expected = ConfusionMatrix(19)
    reader = store.split("val")
    assert store.manifest.identity.edges.gradient == "canny"
    for index in range(len(reader)):
        sample = reader.read(index)
        expected.update(labels_of(sample.image), torch.from_numpy(sample.label.copy()))
        derived = reader.with_prior(EdgeConfig(gradient="released")).read(index)
        np.testing.assert_array_equal(derived.gradient, 255 * image_gradient(sample.image, "released"))
        assert (derived.gradient != sample.gradient).any()
    counted = model.report.whole.confusion.counts
    assert int((counted - expected.counts).abs().sum()) <= 0.01 * int(counted.sum())
    assert "the authors&#39; released weights, sha256:" in found.page.read_text()

    assert "not tracked" not in capsys.readouterr().err
    run = read_run(uri, find_run_of_file(uri, str(released), sha256_of(released)))
    assert run.status == "FINISHED"
    assert run.metrics["val/miou"] == run.metrics["val_evaluated/miou"] == pytest.approx(model.report.scores.miou)
    assert (run.fingerprint, run.params["model.backbone"]) == (store.manifest.fingerprint, "wide_resnet38")
    assert "optimizer.lr" not in run.params, "nothing is claimed of how it was trained"
    evaluate_checkpoint(EvaluateConfig(checkpoint=str(released), store=str(store.path)))
    assert find_run_of_file(uri, str(released), sha256_of(released)) == run.run_id
    comparison = compare_runs([str(released)], None, "val/miou", "comparison.html")
    [contender] = comparison.contenders
    assert contender.by_seed("val/miou") == {0: pytest.approx(model.report.scores.miou)}


def test_its_prediction_of_a_picture_is_the_released_networks(
    tmp_path: Path, released: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    patches = np.random.default_rng(3).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image = patches.repeat(8, axis=0).repeat(8, axis=1)
    write_image(tmp_path / "frames" / "a.png", image)
    result = predict(
        PredictConfig(checkpoint=str(released), input=("frames",), out="out", num_workers=1, use_gpu=False)
    )
    assert result.predicted == 1
    raw_ids = np.array([7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33], np.uint8)
    label = cv2.imread(str(tmp_path / "out" / "label" / "a.png"), cv2.IMREAD_UNCHANGED)
    assert label is not None
    assert len(np.unique(label)) > 3
    assert agreement(label, raw_ids[labels_of(image).numpy()]) > 0.99
    assert (tmp_path / "out" / "edge" / "a.png").is_file()
