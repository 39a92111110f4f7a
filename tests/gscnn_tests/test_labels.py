"""What the metrics of boundaries do with label maps that they cannot count."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gscnn.constants import IGNORE_INDEX
from gscnn.metrics import BoundaryF, BoundaryIoU

K = 5

Frame = NDArray[np.integer]

both_metrics = pytest.mark.parametrize("metric_of", [BoundaryF, BoundaryIoU])


def counted(metric: BoundaryF | BoundaryIoU) -> int:
    return int(metric.images if isinstance(metric, BoundaryF) else metric.unions.sum())


@both_metrics
@pytest.mark.parametrize("value", [-1, 5, 254, 255, 256, 1000])
def test_a_value_that_is_no_class_is_an_error_and_nothing_of_its_batch_counts(
    value: int, metric_of: type[BoundaryF | BoundaryIoU]
) -> None:
    prediction, truth = np.random.default_rng(0).integers(0, K, (2, 2, 40, 53))
    wrong = prediction.copy()
    wrong[1, 7, 9] = value
    metric = metric_of(K)
    for maps in ((wrong, truth), (torch.from_numpy(wrong), torch.from_numpy(truth))):
        with pytest.raises(ValueError, match=rf"prediction holds .*{value}\b.*: need 0 to 4"):
            metric.update(*maps)
    if value != IGNORE_INDEX:
        with pytest.raises(ValueError, match=rf"truth holds .*{value}\b.*: need 0 to 4"):
            metric.update(prediction, wrong)
    assert not counted(metric)
    metric.update(prediction, truth)
    assert counted(metric)


@both_metrics
@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), r"prediction is \[2, 3\], truth is \[3, 2\]"),
        (np.zeros(4, int), np.zeros(4, int), r"truth is \[4\]: need \[H, W\] or \[B, H, W\]"),
        (np.zeros((1, 1, 2, 2), int), np.zeros((1, 1, 2, 2), int), r"truth is \[1, 1, 2, 2\]: need"),
    ],
)
def test_maps_of_wrong_shape_are_an_error(
    prediction: Frame, truth: Frame, message: str, metric_of: type[BoundaryF | BoundaryIoU]
) -> None:
    with pytest.raises(ValueError, match=message):
        metric_of(K).update(prediction, truth)


@both_metrics
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("floats", [np.zeros((2, 3))])
def test_maps_of_floats_are_an_error(floats: Frame, metric_of: type[BoundaryF | BoundaryIoU]) -> None:
    with pytest.raises(ValueError, match=r"prediction is float64 \[2, 3\]: need integers"):
        metric_of(K).update(floats, np.zeros((2, 3), int))
