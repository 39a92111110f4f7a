import json
import math
import re

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gscnn.batch import SegmentationOutput
from gscnn.config import InferenceConfig
from gscnn.metrics import BoundaryF, BoundaryIoU, ConfusionMatrix, distance_crop
from gscnn_platform.data.loader import whole_images
from gscnn_platform.data.store import Store
from gscnn_platform.evaluation import Counts, EvalReport, evaluate

CPU = torch.device("cpu")


class Oracle(nn.Module):
    """Predicts the class that it is told for each image, in order, everywhere."""

    def __init__(self, answers: list[int], num_classes: int) -> None:
        super().__init__()
        self.answers, self.num_classes, self.modes = iter(answers), num_classes, list[bool]()

    def forward(self, image: Tensor, gradient: Tensor) -> SegmentationOutput:
        self.modes.append(self.training)
        logits = torch.zeros(image.shape[0], self.num_classes, *image.shape[-2:])
        for index in range(image.shape[0]):
            logits[index, next(self.answers)] = 1
        return SegmentationOutput(logits, None)


class Stripes(nn.Module):
    """Predicts the class by the column, so that there are boundaries."""

    def forward(self, image: Tensor, gradient: Tensor) -> SegmentationOutput:
        columns = torch.arange(image.shape[-1]) // 24
        logits = torch.nn.functional.one_hot(columns % 9, 9).float().T[None, :, None]
        return SegmentationOutput(logits.expand(image.shape[0], -1, image.shape[-2], -1), None)


def report_of(counts: list[list[int]]) -> EvalReport:
    whole = Counts.empty(len(counts))
    whole.confusion.counts = torch.tensor(counts)
    return EvalReport(tuple(f"class{index}" for index in range(len(counts))), whole)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_counts_are_those_of_a_pixel_loop_over_the_split(streets_store: Store, batch_size: int) -> None:
    reader = streets_store.split("val")
    answers = [2, 1, 2]
    expected = np.zeros((9, 9), int)
    for index, answer in enumerate(answers):
        for truth in reader.read(index).label.ravel():
            if truth != 255:
                expected[truth, answer] += 1
    model = Oracle(answers, 9).train()
    report = evaluate(model, whole_images(reader, batch_size), streets_store.manifest.identity.classes, CPU)
    np.testing.assert_array_equal(report.whole.confusion.counts.numpy(), expected)
    assert not any(model.modes), "evaluation runs in evaluation mode"
    assert model.training, "and puts the model back"


def test_boundaries_crops_and_frames_are_counted_as_if_each_were_counted_alone(streets_store: Store) -> None:
    reader, classes = streets_store.split("val"), streets_store.manifest.identity.classes
    report = evaluate(Stripes(), whole_images(reader, 2), classes, CPU)
    whole, rings, cropped = BoundaryF(9), BoundaryIoU(9, (0.02, 3)), ConfusionMatrix(9)
    frames = []
    for index in range(len(reader)):
        truth = reader.read(index).label
        prediction = np.broadcast_to(np.arange(truth.shape[1]) // 24 % 9, truth.shape)
        whole.update(prediction, truth)
        rings.update(prediction, truth)
        crop = distance_crop(truth.shape[0], truth.shape[1], 200)
        assert crop is not None
        cropped.update(prediction[crop], truth[crop])
        alone = ConfusionMatrix(9)
        alone.update(prediction, truth)
        frames.append(alone.compute().miou)
    assert report.whole.boundary.compute()[3]["official"] == whole.compute()[3]["official"]
    assert 0 < whole.compute()[3]["official"] < 1
    assert report.whole.boundary_iou.compute() == rings.compute()
    assert 0 < rings.compute()[0.02]["mean"] < rings.compute()[3]["mean"] < 1
    torch.testing.assert_close(report.by_distance[200].confusion.counts, cropped.counts)
    assert list(report.frames) == frames
    assert list(report.distance_curve()) == [0, 100, 200, 300], "nothing of 96x64 is left at 400"


def test_inference_settings_reach_the_model(streets_store: Store) -> None:
    reader = streets_store.split("val")
    model = Oracle([0] * 100, 9)
    settings = InferenceConfig(scales=(0.5, 1.0), flip=True)
    evaluate(model, whole_images(reader), streets_store.manifest.identity.classes, CPU, inference=settings)
    assert len(model.modes) == 4 * len(reader)


def test_counts_of_several_workers_add_up_to_those_of_one(streets_store: Store) -> None:
    reader, classes = streets_store.split("val"), streets_store.manifest.identity.classes
    alone = evaluate(Stripes(), whole_images(reader), classes, CPU).whole
    shares = [evaluate(Stripes(), whole_images(reader, 1, rank, 2), classes, CPU).whole for rank in range(2)]
    seen: list[Tensor] = []
    shares[1].add_over(lambda tensor: (seen.append(tensor), tensor)[1])
    others = iter(seen)
    shares[0].add_over(lambda tensor: tensor + next(others))
    torch.testing.assert_close(shares[0].confusion.counts, alone.confusion.counts)
    for radius, scores in alone.boundary.compute().items():
        assert shares[0].boundary.compute()[radius]["official"] == pytest.approx(scores["official"], abs=1e-12)
    assert alone.boundary_iou.unions.any()
    torch.testing.assert_close(shares[0].boundary_iou.intersections, alone.boundary_iou.intersections)
    torch.testing.assert_close(shares[0].boundary_iou.unions, alone.boundary_iou.unions)


def test_the_constant_prediction_is_the_baseline_for_a_model() -> None:
    counts = [[6, 1, 0], [1, 2, 0], [0, 0, 0]]
    constant = report_of([[7, 0, 0], [3, 0, 0], [0, 0, 0]])
    assert report_of(counts).constant_miou == pytest.approx(constant.scores.miou)


def test_the_table_shows_every_class_and_a_dash_where_there_was_none() -> None:
    lines = report_of([[3, 1, 0], [1, 3, 0], [0, 0, 0]]).table().splitlines()
    headings = [f"F {radius} px" for radius in (3, 5, 9, 12)] + ["BIoU 2%", "BIoU 3 px"]
    assert re.split("  +", lines[0]) == ["class", "pixels", "IoU", *headings]
    assert lines[2].split() == ["class0", "50.00%", "0.600", *"------"]
    assert lines[4].split() == ["class2", "0.00%", *"-------"]
    assert lines[6].split()[:2] == ["mean", "0.600"]
    assert len({len(line) for line in lines[:7]}) == 1, "columns line up"


def test_metrics_leave_out_nan(streets_store: Store) -> None:
    assert report_of([[3, 1, 0], [1, 3, 0], [0, 0, 0]]).metrics("val") == {
        "val/miou": pytest.approx(0.6),
        "val/pixel_accuracy": pytest.approx(0.75),
        "val_iou/class0": pytest.approx(0.6),
        "val_iou/class1": pytest.approx(0.6),
    }
    reader = streets_store.split("val")
    metrics = evaluate(Stripes(), whole_images(reader), streets_store.manifest.identity.classes, CPU).metrics("val")
    for radius in (3, 5, 9, 12):
        assert 0 < metrics[f"val/boundary_f_{radius}px_present"] < metrics[f"val/boundary_f_{radius}px"] < 1


def test_the_plain_data_are_json_without_nan(streets_store: Store) -> None:
    data = report_of([[3, 1, 0], [1, 3, 0], [0, 0, 0]]).as_data()
    assert json.loads(json.dumps(data, allow_nan=False))["per_class"][2]["iou"] is None


def test_an_empty_split_has_no_score_rather_than_zero() -> None:
    report = report_of([[0, 0], [0, 0]])
    assert math.isnan(report.scores.miou)
    assert math.isnan(report.constant_miou)
    assert "nan" not in report.table()


def test_scores_over_void_alone_are_empty_and_change_no_others() -> None:
    truth = torch.zeros(40, 50, dtype=torch.long)
    truth[:, 25:] = 1
    void, prediction = torch.full_like(truth, 255), truth.roll(3, dims=1)
    alone, together, without = Counts.empty(3), Counts.empty(3), Counts.empty(3)
    alone.update(prediction, void)
    together.update(torch.stack([prediction, prediction]), torch.stack([truth, void]))
    without.update(prediction, truth)
    classes = ("a", "b", "c")
    report = EvalReport(classes, alone, {100: alone}, [math.nan])
    assert report.metrics("val") == {}
    assert set(report.as_data()["summary"].values()) == {None}
    assert "nan" not in report.table().lower()
    assert EvalReport(classes, together).metrics("val") == EvalReport(classes, without).metrics("val") != {}
