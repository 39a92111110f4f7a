import itertools
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gscnn.constants import IGNORE_INDEX
from gscnn.metrics import DISTANCE_FACTORS, ConfusionMatrix, SegmentationScores, distance_crop

K = 5


def random_frames(seed: int, frames: int = 2, num_classes: int = K) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Prediction and truth, [frames, 9, 11]; a fifth of the truth is void, and two of three predictions are right."""
    rng = np.random.default_rng(seed)
    shape = (frames, 9, 11)
    truth = rng.integers(0, num_classes, shape)
    prediction = np.where(rng.random(shape) < 2 / 3, truth, rng.integers(0, num_classes, shape))
    return prediction, np.where(rng.random(shape) < 0.2, IGNORE_INDEX, truth)


def counted(prediction: NDArray[np.integer], truth: NDArray[np.integer], num_classes: int = K) -> ConfusionMatrix:
    matrix = ConfusionMatrix(num_classes)
    matrix.update(prediction, truth)
    return matrix


def pixel_loop(prediction: NDArray[np.integer], truth: NDArray[np.integer], num_classes: int = K) -> list[list[int]]:
    counts = [[0] * num_classes for _ in range(num_classes)]
    for predicted, true in zip(prediction.flat, truth.flat, strict=True):
        if true != IGNORE_INDEX:
            counts[int(true)][int(predicted)] += 1
    return counts


def iou_by_sets(prediction: NDArray[np.integer], truth: NDArray[np.integer], num_classes: int = K) -> list[float]:
    pixels = [index for index, value in enumerate(truth.flat) if value != IGNORE_INDEX]
    scores = []
    for name in range(num_classes):
        true = {index for index in pixels if truth.flat[index] == name}
        predicted = {index for index in pixels if prediction.flat[index] == name}
        scores.append(len(true & predicted) / len(true | predicted) if true | predicted else math.nan)
    return scores


@pytest.mark.parametrize("seed", range(3))
def test_counts_equal_a_pixel_loop(seed: int) -> None:
    prediction, truth = random_frames(seed)
    assert counted(prediction, truth).counts.tolist() == pixel_loop(prediction, truth)


def test_rows_are_the_truth_and_columns_the_prediction() -> None:
    counts = counted(np.array([[1]]), np.array([[3]])).counts
    assert counts[3, 1] == 1
    assert counts.sum() == 1


def test_counts_add_over_batches() -> None:
    prediction, truth = random_frames(0, frames=6)
    matrix = ConfusionMatrix(K)
    for frames in ([0], [1, 2, 3], [4, 5]):
        matrix.update(prediction[frames], truth[frames])
    assert torch.equal(matrix.counts, counted(prediction, truth).counts)


def test_workers_merge_in_any_order() -> None:
    frames = [random_frames(seed) for seed in range(3)]
    together = counted(
        np.concatenate([prediction for prediction, _ in frames]), np.concatenate([truth for _, truth in frames])
    )
    for order in itertools.permutations(frames):
        first, *others = [counted(*worker) for worker in order]
        for other in others:
            first.merge(other)
        assert torch.equal(first.counts, together.counts)


def test_merging_leaves_the_other_worker_as_it_was() -> None:
    first, other = counted(*random_frames(0)), counted(*random_frames(1))
    before = other.counts.clone()
    first.merge(other)
    first.update(*random_frames(2))
    assert torch.equal(other.counts, before)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (ConfusionMatrix(1), "num_classes is 5 here and 1 in the other"),
        (ConfusionMatrix(K, ignore_index=0), "ignore_index is 255 here and 0 in the other"),
    ],
)
def test_matrices_of_other_classes_or_another_void_do_not_merge(other: ConfusionMatrix, message: str) -> None:
    """The counts of one class would be added to those of every pair of classes."""
    matrix = counted(*random_frames(0))
    before = matrix.counts.clone()
    with pytest.raises(ValueError, match=message):
        matrix.merge(other)
    assert torch.equal(matrix.counts, before)


def test_after_a_reset_only_what_comes_later_counts() -> None:
    matrix = counted(*random_frames(0))
    matrix.reset()
    assert not matrix.counts.any()
    matrix.update(*random_frames(1))
    assert torch.equal(matrix.counts, counted(*random_frames(1)).counts)


@pytest.mark.parametrize("seed", range(3))
def test_iou_equals_sets_of_pixels(seed: int) -> None:
    prediction, truth = random_frames(seed)
    scores = counted(prediction, truth).compute()
    expected = iou_by_sets(prediction, truth)
    np.testing.assert_allclose(scores.iou, expected, rtol=1e-12)
    assert scores.miou == pytest.approx(sum(expected) / K, rel=1e-12)


def test_pixel_accuracy_is_the_share_of_right_pixels_without_void() -> None:
    prediction, truth = random_frames(0)
    right = sum(p == t for p, t in zip(prediction.flat, truth.flat, strict=True))
    assert counted(prediction, truth).compute().pixel_accuracy == right / np.sum(truth != IGNORE_INDEX)


def test_a_class_in_neither_map_is_nan_and_left_out_of_the_mean() -> None:
    truth = np.array([[0, 0, 1, 1]])
    prediction = np.array([[0, 0, 1, 0]])
    scores = counted(prediction, truth, num_classes=4).compute()
    np.testing.assert_allclose(scores.iou, [2 / 3, 1 / 2, math.nan, math.nan])
    assert scores.miou == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_a_class_that_is_only_predicted_scores_zero_and_counts() -> None:
    scores = counted(np.array([[0, 2]]), np.array([[0, 0]]), num_classes=3).compute()
    np.testing.assert_allclose(scores.iou, [1 / 2, math.nan, 0])
    assert scores.miou == pytest.approx(1 / 4)


def test_miou_is_not_the_mean_of_the_scores_of_each_image() -> None:
    """All right on one pixel of class 1, all wrong on nine: the split has found a tenth of it, not half."""
    truth = np.array([[[1] + [0] * 9], [[1] * 9 + [0]]])
    prediction = np.array([[[1] + [0] * 9], [[0] * 9 + [0]]])
    split = counted(prediction, truth, num_classes=2).compute()
    images = [counted(prediction[i], truth[i], num_classes=2).compute().miou for i in range(2)]
    assert split.miou == pytest.approx((10 / 19 + 1 / 10) / 2)
    assert sum(images) / 2 == pytest.approx((1 + (1 / 10 + 0) / 2) / 2)
    assert split.miou < sum(images) / 2


def test_void_never_counts_whatever_is_predicted_there() -> None:
    prediction, truth = random_frames(0)
    elsewhere = prediction.copy()
    elsewhere[truth == IGNORE_INDEX] = 254
    matrix = counted(elsewhere, truth)
    assert torch.equal(matrix.counts, counted(prediction, truth).counts)
    assert matrix.counts.sum() == np.sum(truth != IGNORE_INDEX)


def test_void_may_have_another_value() -> None:
    matrix = ConfusionMatrix(2, ignore_index=-1)
    matrix.update(np.array([[0, 1, 1]]), np.array([[0, -1, 1]]))
    assert matrix.counts.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("truth", [np.empty((0, 4), np.int64), np.full((3, 4), IGNORE_INDEX)])
def test_nothing_counted_scores_nan(truth: NDArray[np.integer]) -> None:
    scores = counted(np.zeros_like(truth), truth).compute()
    assert math.isnan(scores.miou)
    assert math.isnan(scores.pixel_accuracy)
    assert np.isnan(scores.iou).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64])
def test_no_integer_type_overflows(dtype: type[np.integer]) -> None:
    """In uint8 the cell of (18, 18) among 19 classes, 360, would wrap to 104."""
    frame = np.full((4, 6), 18, dtype)
    counts = counted(frame, frame, num_classes=19).counts
    assert counts[18, 18] == 24
    assert counts.sum() == 24


def test_numpy_and_tensor_agree() -> None:
    prediction, truth = random_frames(0)
    of_tensors = ConfusionMatrix(K)
    of_tensors.update(torch.from_numpy(prediction), torch.from_numpy(truth))
    mixed = ConfusionMatrix(K)
    mixed.update(torch.from_numpy(prediction).byte(), truth)
    expected = pixel_loop(prediction, truth)
    assert of_tensors.counts.tolist() == expected
    assert mixed.counts.tolist() == expected


@pytest.mark.parametrize("value", [-1, 3, 255])
def test_a_prediction_that_is_no_class_is_an_error(value: int) -> None:
    matrix = ConfusionMatrix(3)
    with pytest.raises(ValueError, match=r"prediction holds .* need 0 to 2"):
        matrix.update(np.array([[0, value]]), np.array([[0, 1]]))
    assert matrix.counts.sum() == 0


@pytest.mark.parametrize("value", [-1, 3, 254])
def test_a_truth_that_is_neither_class_nor_void_is_an_error(value: int) -> None:
    with pytest.raises(ValueError, match=r"truth holds .* need 0 to 2"):
        counted(np.array([[0, 1]]), np.array([[0, value]]), num_classes=3)


def test_maps_of_different_shape_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"prediction is \[2, 3\], truth is \[3, 2\]"):
        counted(np.zeros((2, 3), np.int64), np.zeros((3, 2), np.int64))


def test_scores_are_plain_numbers() -> None:
    """What tracking writes down: no tensor, no numpy scalar."""
    scores = counted(*random_frames(0)).compute()
    assert isinstance(scores, SegmentationScores)
    assert (type(scores.miou), type(scores.pixel_accuracy)) == (float, float)


@pytest.mark.parametrize(("factor", "rows", "columns"), [(0, 1024, 2048), (100, 824, 1648), (400, 224, 448)])
def test_a_crop_takes_its_factor_from_the_rows_and_twice_that_from_the_columns(
    factor: int, rows: int, columns: int
) -> None:
    crop = distance_crop(1024, 2048, factor)
    assert crop is not None
    frame = np.arange(1024 * 2048).reshape(1024, 2048)
    np.testing.assert_array_equal(frame[crop], frame[factor : factor + rows, 2 * factor : 2 * factor + columns])
    assert frame[crop].shape == (rows, columns)


@pytest.mark.parametrize(
    ("height", "factor", "rows"), [(512, 100, 50), (512, 201, 101), (360, 100, 35), (360, 300, 105)]
)
def test_other_frames_scale_the_factor_by_their_height_to_the_nearest_pixel(
    height: int, factor: int, rows: int
) -> None:
    """50, 100.5, 35.16 and 105.47: halves go up. The columns are twice the rounded rows, whatever the width."""
    assert distance_crop(height, 480, factor) == (slice(rows, height - rows), slice(2 * rows, 480 - 2 * rows))


def test_nothing_is_left_of_a_camvid_frame_at_the_largest_factor() -> None:
    left = [distance_crop(360, 480, factor) is not None for factor in DISTANCE_FACTORS]
    assert left == [True, True, True, True, False]
    assert distance_crop(1024, 1, 0) == (slice(0, 1024), slice(0, 1))
    assert distance_crop(1024, 4096, 512) is None


@pytest.mark.parametrize(("frame", "factor"), [((1024, 2048), -1), ((0, 2048), 0), ((1024, -1), 100)])
def test_a_crop_of_no_frame_or_a_negative_factor_is_an_error(frame: tuple[int, int], factor: int) -> None:
    with pytest.raises(ValueError, match=r"factor is -1|height is 0|width is -1"):
        distance_crop(*frame, factor)
