import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gscnn.metrics import ConfusionMatrix
from gscnn.model import SegmentationOutput
from gscnn_platform.data.loader import whole_images
from gscnn_platform.data.store import Store
from gscnn_platform.evaluation import EvalReport, evaluate

CPU = torch.device("cpu")


class Oracle(nn.Module):
    """Predicts each image's most frequent class everywhere, which it is told in order."""

    def __init__(self, answers: list[int], num_classes: int) -> None:
        super().__init__()
        self.answers, self.num_classes, self.modes = iter(answers), num_classes, list[bool]()

    def forward(self, image: Tensor, gradient: Tensor) -> SegmentationOutput:
        self.modes.append(self.training)
        logits = torch.zeros(image.shape[0], self.num_classes, *image.shape[-2:])
        for index in range(image.shape[0]):
            logits[index, next(self.answers)] = 1
        return SegmentationOutput(logits, None)


def report_of(counts: list[list[int]]) -> EvalReport:
    confusion = ConfusionMatrix(len(counts))
    confusion.counts = torch.tensor(counts)
    return EvalReport(tuple(f"class{index}" for index in range(len(counts))), confusion)


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
    np.testing.assert_array_equal(report.confusion.counts.numpy(), expected)
    assert not any(model.modes), "evaluation runs in evaluation mode"
    assert model.training, "and puts the model back"


def test_the_constant_prediction_is_the_bar_that_a_model_must_clear() -> None:
    counts = [[6, 1, 0], [1, 2, 0], [0, 0, 0]]
    constant = report_of([[7, 0, 0], [3, 0, 0], [0, 0, 0]])
    assert report_of(counts).constant_miou == pytest.approx(constant.scores.miou)


def test_the_table_shows_every_class_and_a_dash_where_there_was_none() -> None:
    report = report_of([[3, 1, 0], [1, 3, 0], [0, 0, 0]])
    lines = report.table().splitlines()
    assert lines[2].split() == ["class0", "0.600", "50.00%"]
    assert lines[4].split() == ["class2", "-", "0.00%"]
    assert lines[6].split() == ["mean", "0.600"]


def test_metrics_leave_out_what_is_not_a_number() -> None:
    metrics = report_of([[3, 1, 0], [1, 3, 0], [0, 0, 0]]).metrics("val")
    assert metrics == {
        "val/miou": pytest.approx(0.6),
        "val/pixel_accuracy": pytest.approx(0.75),
        "val_iou/class0": pytest.approx(0.6),
        "val_iou/class1": pytest.approx(0.6),
    }


def test_an_empty_split_has_no_score_rather_than_zero() -> None:
    report = report_of([[0, 0], [0, 0]])
    assert math.isnan(report.scores.miou)
    assert math.isnan(report.constant_miou)
    assert "nan" in report.table()
