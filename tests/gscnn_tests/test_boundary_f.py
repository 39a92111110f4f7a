import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gscnn.constants import IGNORE_INDEX
from gscnn.metrics import BoundaryF, boundary_counts

K = 5
RADII = (3, 5, 9, 12)

Frame = NDArray[np.integer]


def random_frames(seed: int, shape: tuple[int, int] = (40, 53), void: float = 0.1) -> tuple[Frame, Frame]:
    """Prediction and truth: patches of 9x9 pixels, two pixels apart, and void in the truth in the share asked for."""
    rng = np.random.default_rng(seed)
    large = np.kron(rng.integers(0, K, (shape[0] // 9 + 2, shape[1] // 9 + 2)), np.ones((9, 9), np.int64))
    prediction, truth = large[: shape[0], : shape[1]], large[2 : shape[0] + 2, : shape[1]]
    return prediction, np.where(rng.random(shape) < void, IGNORE_INDEX, truth)


def scored(prediction: Frame, truth: Frame, num_classes: int = K, radii: tuple[int, ...] = RADII) -> BoundaryF:
    metric = BoundaryF(num_classes, radii)
    metric.update(prediction, truth)
    return metric


def test_f_of_a_step_that_is_two_pixels_off_is_one_from_radius_two_on() -> None:
    truth, prediction = np.array([[0, 0, 0, 1, 1, 1, 1]]), np.array([[0, 0, 0, 0, 0, 1, 1]])
    scores = scored(prediction, truth, 2, (1, 2, 3)).compute()
    assert {radius: score["official"] for radius, score in scores.items()} == {1: 0.0, 2: 1.0, 3: 1.0}


def test_f_is_the_harmonic_mean_of_precision_and_recall() -> None:
    """Class 1 is predicted with three boundary pixels, of which one is right, and that finds one of two: F = 2/5."""
    truth = np.array([[0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]])
    prediction = np.array([[0, 1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1]])
    counts = boundary_counts(prediction, truth, 2, (1,))
    assert (counts.predicted.tolist(), counts.truth.tolist()) == ([3, 3], [2, 2])
    assert (counts.matched_predicted.tolist(), counts.matched_truth.tolist()) == ([[1, 1]], [[1, 1]])
    assert scored(prediction, truth, 2, (1,)).compute()[1]["official_per_class"] == pytest.approx([2 / 5, 2 / 5])


def test_a_class_without_boundary_scores_one_officially_and_is_else_left_out() -> None:
    truth, prediction = np.array([[0, 0, 1, 1, 1, 1]]), np.array([[0, 0, 0, 0, 0, 1]])
    scores = scored(prediction, truth, 4, (1,)).compute()[1]
    assert scores["official_per_class"] == [0, 0, 1, 1]
    np.testing.assert_array_equal(scores["present_only_per_class"], [0, 0, math.nan, math.nan])
    assert (scores["official"], scores["present_only"]) == (0.5, 0.0)


@pytest.mark.parametrize(("prediction", "truth"), [([[0, 0, 2]], [[0, 0, 0]]), ([[0, 0, 0]], [[0, 0, 2]])])
def test_a_boundary_in_one_map_only_scores_zero_and_counts(prediction: list, truth: list) -> None:
    scores = scored(np.array(prediction), np.array(truth), 3).compute()[3]
    assert scores["official_per_class"] == [0, 1, 0]
    np.testing.assert_array_equal(scores["present_only_per_class"], [0, math.nan, 0])


def test_the_mean_is_over_images_first_and_then_over_classes() -> None:
    """Classes 0 and 1 have a boundary in both images and are found in one, class 2 has one in the second only."""
    truth = np.array([[[0, 0, 1, 1, 1, 1, 1, 1]], [[0, 0, 1, 1, 1, 1, 2, 2]]])
    prediction = np.array([[[0, 0, 1, 1, 1, 1, 1, 1]], [[2, 2, 2, 2, 2, 2, 2, 2]]])
    scores = scored(prediction, truth, 3, (1,)).compute()[1]
    assert scores["official_per_class"] == [0.5, 0.5, 0.5]
    assert scores["present_only_per_class"] == [0.5, 0.5, 0.0]
    assert scores["official"] == 0.5
    assert scores["present_only"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_the_official_code_written_out(seed: int) -> None:
    frames = [random_frames(10 * seed + image, (20, 26)) for image in range(4)]
    frames[0][0][:], frames[0][1][:] = 1, np.where(frames[0][1] == IGNORE_INDEX, IGNORE_INDEX, 1)
    metric = BoundaryF(K + 1, (2, 4))
    for pair in frames:
        metric.update(*pair)
    for row, radius in enumerate((2, 4)):
        official = np.ones((4, K + 1))
        there = np.zeros((4, K + 1), bool)
        for image, pair in enumerate(frames):
            counts = vars(boundary_counts(*pair, K + 1, (2, 4)))
            for k in range(K + 1):
                ours, theirs = counts["predicted"][k], counts["truth"][k]
                there[image, k] = bool(ours or theirs)
                if ours and theirs:
                    p, r = counts["matched_predicted"][row][k] / ours, counts["matched_truth"][row][k] / theirs
                    official[image, k] = 2 * p * r / (p + r) if p + r else 0
                elif ours or theirs:
                    official[image, k] = 0
        scores = metric.compute()[radius]
        of_present = [official[there[:, k], k].mean() if there[:, k].any() else math.nan for k in range(K + 1)]
        assert scores["official_per_class"] == pytest.approx(official.mean(axis=0).tolist())
        assert scores["official"] == pytest.approx(official.mean())
        assert scores["present_only_per_class"] == pytest.approx(of_present, nan_ok=True)
        assert scores["present_only"] == pytest.approx(np.nanmean(of_present))
        assert math.isnan(of_present[K])


@pytest.mark.parametrize("seed", range(3))
def test_a_perfect_prediction_scores_one(seed: int) -> None:
    _, truth = random_frames(seed, void=0.3)
    for scores in scored(np.where(truth == IGNORE_INDEX, 0, truth), truth).compute().values():
        assert scores["official_per_class"] == scores["present_only_per_class"] == [1.0] * K
        assert scores["official"] == scores["present_only"] == 1.0


def test_merging_equals_one_pass_and_leaves_the_other_as_it_was() -> None:
    frames = [random_frames(seed) for seed in range(5)]
    together, first, other = BoundaryF(K), BoundaryF(K), BoundaryF(K)
    for pair in frames:
        together.update(*pair)
    for pair in frames[:2]:
        first.update(*pair)
    for pair in frames[2:]:
        other.update(*pair)
    before = other.compute()
    first.merge(other)
    assert (first.images.item(), first.present.tolist()) == (5, together.present.tolist())
    torch.testing.assert_close(first.f_sums, together.f_sums, rtol=1e-14, atol=0)
    first.update(*frames[0])
    assert other.compute() == before


def test_state_is_small_tensors_that_add() -> None:
    metric = scored(*random_frames(0))
    assert (metric.f_sums.dtype, metric.f_sums.shape) == (torch.float64, (len(RADII), K))
    assert (metric.present.dtype, metric.present.shape) == (torch.int64, (K,))
    assert (metric.images.dtype, metric.images.shape) == (torch.int64, ())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_tensors_and_batches_give_what_their_frames_give(dtype: torch.dtype) -> None:
    frames = [random_frames(seed) for seed in range(3)]
    one_by_one = BoundaryF(K)
    for pair in frames:
        one_by_one.update(*pair)
    predictions, truths = (torch.from_numpy(np.stack(maps)).to(dtype) for maps in zip(*frames, strict=True))
    batched, mixed = BoundaryF(K), BoundaryF(K)
    batched.update(predictions, truths)
    mixed.update(predictions, truths.numpy())
    for metric in (batched, mixed):
        assert metric.compute() == one_by_one.compute()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_tensor_on_the_gpu_scores_as_on_the_cpu() -> None:
    prediction, truth = map(torch.from_numpy, random_frames(0))
    metric = BoundaryF(K)
    metric.update(prediction.cuda(), truth.cuda())
    assert metric.compute() == scored(prediction.numpy(), truth.numpy()).compute()
    assert metric.f_sums.device.type == "cpu"
    for wrong in (prediction - 1, prediction + 252):
        with pytest.raises(ValueError, match="prediction holds"):
            metric.update(wrong.cuda(), truth.cuda())


def test_without_images_every_score_is_nan() -> None:
    for scores in BoundaryF(2).compute().values():
        values = [scores["official"], scores["present_only"]]
        assert np.isnan(values + scores["official_per_class"] + scores["present_only_per_class"]).all()


def test_scores_are_plain_numbers() -> None:
    """What tracking writes down: no tensor, no numpy scalar."""
    scores = scored(*random_frames(0)).compute()
    assert list(scores) == list(RADII)
    for radius, score in scores.items():
        values = [score["official"], score["present_only"], *score["official_per_class"]]
        assert {type(value) for value in [*values, *score["present_only_per_class"]]} == {float}
        assert type(radius) is int


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("radii", "message"), [((), "empty"), ((3, 0), "has 0"), ((-2,), "has -2"), ((2.5,), "2.5")])
def test_radii_that_are_no_positive_integers_are_an_error(radii: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=f"radii .*{message}"):
        BoundaryF(K, radii)
    with pytest.raises(ValueError, match=f"radii .*{message}"):
        boundary_counts(np.zeros((2, 2), int), np.zeros((2, 2), int), K, radii)


def test_no_class_is_an_error() -> None:
    with pytest.raises(ValueError, match="num_classes is 0"):
        BoundaryF(0)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (BoundaryF(6), "num_classes is 5 here and 6"),
        (BoundaryF(5, (3,)), r"radii is \(3, 5, 9, 12\) here and \(3,\)"),
        (BoundaryF(5, ignore_index=-1), "ignore_index is 255 here and -1"),
    ],
)
def test_only_equal_settings_can_be_merged(other: BoundaryF, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BoundaryF(5).merge(other)


def test_after_a_reset_only_what_comes_later_counts() -> None:
    counted = scored(*random_frames(0))
    counted.reset()
    assert not (counted.f_sums.any() or counted.present.any() or counted.images)
    counted.update(*random_frames(1))
    assert counted.compute() == scored(*random_frames(1)).compute()
