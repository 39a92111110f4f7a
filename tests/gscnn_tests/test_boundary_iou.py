import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import DTypeLike, NDArray
from scipy.ndimage import binary_erosion

from gscnn.constants import IGNORE_INDEX
from gscnn.metrics import BoundaryIoU
from gscnn.metrics.boundary_iou import Distance

K = 5
DISTANCES = (1, 3, 0.1, 9)
SHAPES = ((1, 1), (1, 7), (6, 1), (2, 2), (5, 6), (9, 8))

Frame = NDArray[np.integer]
Mask = NDArray[np.bool_]


def random_frames(seed: int, shape: tuple[int, int] = (40, 53), void: float = 0.1) -> tuple[Frame, Frame]:
    """Prediction and truth: patches of 7x7 and of 21x21 pixels, moved by up to 3 between the two, and one pixel of 50
    of any class. Patches of the truth are void, in the share asked for, and one pixel of 50."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, K, (shape[0] // 7 + 2, shape[1] // 7 + 2))
    patches[:3, :3], patches[-3:, -3:] = 1, 2
    large = np.kron(patches, np.ones((7, 7), np.int64))
    frames = []
    for _ in range(2):
        top, left = rng.integers(0, 4, 2)
        frame = large[top : top + shape[0], left : left + shape[1]]
        frames.append(np.where(rng.random(shape) < 1 / 50, rng.integers(0, K, shape), frame))
    hidden = np.kron(rng.random(patches.shape) < void, np.ones((7, 7), bool))[: shape[0], : shape[1]]
    hidden |= rng.random(shape) < 1 / 50 * (void > 0)
    return frames[0], np.where(hidden, IGNORE_INDEX, frames[1])


def ring_by_erosion(mask: Mask, distance: int) -> Mask:
    """The definition: the mask minus its erosion by a 3x3 square, repeated; outside the frame is background."""
    eroded = mask
    for _ in range(distance):
        framed = np.pad(eroded, 1)
        squares = [framed[y : y + mask.shape[0], x : x + mask.shape[1]] for y in range(3) for x in range(3)]
        eroded = np.logical_and.reduce(squares)
    return mask & ~eroded


def ring_by_opencv(mask: Mask, distance: int) -> Mask:
    framed = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    return mask & (cv2.erode(framed, np.ones((3, 3), np.uint8), iterations=distance)[1:-1, 1:-1] == 0)


def ring_by_scipy(mask: Mask, distance: int) -> Mask:
    return mask & ~np.asarray(binary_erosion(mask, np.ones((3, 3)), distance, border_value=0), bool)


def ring_by_pixel_loop(mask: Mask, distance: int) -> Mask:
    """Pixels of the mask with one that is not of it, or the outside, within the square around them."""
    ring = np.zeros_like(mask)
    offsets = range(-distance, distance + 1)
    for y, x in np.argwhere(mask):
        square = [(int(y) + dy, int(x) + dx) for dy in offsets for dx in offsets]
        ring[y, x] = any(not (0 <= b < mask.shape[0] and 0 <= a < mask.shape[1]) or not mask[b, a] for b, a in square)
    return ring


def counts_by_mask(
    prediction: Frame,
    truth: Frame,
    distances: Sequence[Distance] = DISTANCES,
    ring: Callable[[Mask, int], Mask] = ring_by_erosion,
    num_classes: int = K,
    ignore_index: int = IGNORE_INDEX,
) -> tuple[list[list[int]], list[list[int]]]:
    """Intersections and unions by distance and class, one mask at a time."""
    intersections, unions = [], []
    for distance in distances:
        diagonal = math.hypot(*truth.shape)
        pixels = max(1, round(distance * diagonal)) if isinstance(distance, float) else distance
        pairs = [
            [ring((frame == value) & (truth != ignore_index), pixels) for frame in (prediction, truth)]
            for value in range(num_classes)
        ]
        intersections.append([int((ours & theirs).sum()) for ours, theirs in pairs])
        unions.append([int((ours | theirs).sum()) for ours, theirs in pairs])
    return intersections, unions


def counted(
    prediction: Frame,
    truth: Frame,
    distances: Sequence[Distance] = DISTANCES,
    num_classes: int = K,
    ignore_index: int = IGNORE_INDEX,
) -> tuple[list[list[int]], list[list[int]]]:
    return as_lists(scored(prediction, truth, distances, num_classes, ignore_index))


def as_lists(metric: BoundaryIoU) -> tuple[list[list[int]], list[list[int]]]:
    return metric.intersections.tolist(), metric.unions.tolist()


def scored(
    prediction: Frame,
    truth: Frame,
    distances: Sequence[Distance] = DISTANCES,
    num_classes: int = K,
    ignore_index: int = IGNORE_INDEX,
) -> BoundaryIoU:
    metric = BoundaryIoU(num_classes, distances, ignore_index)
    metric.update(prediction, truth)
    return metric


@pytest.mark.parametrize("ring", [ring_by_erosion, ring_by_opencv, ring_by_scipy])
@pytest.mark.parametrize("void", [0, 0.1, 0.6])
@pytest.mark.parametrize("seed", range(3))
def test_counts_equal_an_erosion_per_class_and_map(seed: int, void: float, ring: Callable[[Mask, int], Mask]) -> None:
    prediction, truth = random_frames(seed, void=void)
    expected = counts_by_mask(prediction, truth, ring=ring)
    assert 0 < sum(expected[0][0]) < sum(expected[0][1]) < sum(expected[0][3])
    assert counted(prediction, truth) == expected


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(4))
def test_counts_of_tiny_frames_equal_a_pixel_loop_even_where_the_ring_is_wider(
    seed: int, shape: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    prediction = np.where(rng.random(shape) < 0.8, 1, rng.integers(0, 3, shape))
    truth = np.where(rng.random(shape) < 0.8, 1, rng.choice(np.array([0, 2, IGNORE_INDEX]), shape))
    distances = (1, 2, 3, 4, 0.02, 0.9, 50)
    expected = counts_by_mask(prediction, truth, distances, ring_by_pixel_loop, 3)
    assert counted(prediction, truth, distances, 3) == expected


def test_a_square_moved_by_one_pixel_has_the_boundary_iou_that_paper_and_pencil_give() -> None:
    """Rings of 6x6 squares are 6x6 - 4x4 = 20 pixels wide at distance 1; of the moved one, 10 are in both rings: 5 in
    the first and the last row each, and none in the columns."""
    truth, prediction = np.zeros((2, 12, 12), np.int64)
    truth[3:9, 3:9], prediction[3:9, 4:10] = 1, 1
    assert scored(prediction, truth, (1,), 2).compute()[1]["per_class"][1] == pytest.approx(10 / (20 + 20 - 10))


def test_the_frame_counts_as_outside() -> None:
    """A class that covers all of a 10x10 frame has a ring along the frame: 100 - 8x8 pixels at distance 1."""
    everything = np.zeros((10, 10), np.int64)
    assert counted(everything, everything, (1, 2), 1) == ([[36], [64]], [[36], [64]])


def test_a_share_is_of_the_diagonal_rounded_and_at_least_one_pixel() -> None:
    for shape, pixels in (((1024, 2048), 46), ((480, 360), 12), ((30, 40), 1), ((4, 3), 1)):
        prediction = np.zeros(shape, np.int64)
        for distance in (0.02, pixels):
            metric = scored(prediction, prediction, (distance,), 1)
            inside = max(shape[0] - 2 * pixels, 0) * max(shape[1] - 2 * pixels, 0)
            assert metric.unions.tolist() == [[shape[0] * shape[1] - inside]]


def test_a_share_is_taken_of_each_images_own_diagonal() -> None:
    small, large = random_frames(0, (30, 40)), random_frames(1, (60, 80))
    metric = BoundaryIoU(K, (0.05,))
    for pair in (small, large):
        metric.update(*pair)
    parts = [counts_by_mask(*small, (2,)), counts_by_mask(*large, (5,))]
    assert as_lists(metric) == tuple(np.add(*counts).tolist() for counts in zip(*parts, strict=True))


def test_scores_are_sums_over_images_divided_once_and_the_mean_ignores_absent_classes() -> None:
    metric = BoundaryIoU(K + 1, DISTANCES)
    frames = [random_frames(seed) for seed in range(3)]
    for pair in frames:
        metric.update(*pair)
    sums = [np.sum(counts, axis=0) for counts in zip(*(counts_by_mask(*pair) for pair in frames), strict=True)]
    scores = metric.compute()
    assert list(scores) == list(DISTANCES)
    for row, distance in enumerate(DISTANCES):
        iou = sums[0][row] / sums[1][row]
        assert scores[distance]["per_class"] == pytest.approx([*iou, math.nan], nan_ok=True)
        assert scores[distance]["mean"] == pytest.approx(iou.mean())
        assert 0 < scores[distance]["mean"] < 1


@pytest.mark.parametrize(("prediction", "truth"), [([[0, 0, 2]], [[0, 0, 0]]), ([[0, 0, 0]], [[0, 0, 2]])])
def test_a_class_of_one_map_only_scores_zero_and_one_of_neither_is_nan(prediction: list, truth: list) -> None:
    scores = scored(np.array(prediction), np.array(truth), num_classes=3).compute()[3]
    np.testing.assert_array_equal(scores["per_class"], [2 / 3, math.nan, 0])
    assert scores["mean"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("seed", range(3))
def test_a_perfect_prediction_scores_one(seed: int) -> None:
    _, truth = random_frames(seed, void=0.3)
    for scores in scored(np.where(truth == IGNORE_INDEX, 0, truth), truth).compute().values():
        assert scores["per_class"] == [1.0] * K
        assert scores["mean"] == 1.0


@pytest.mark.parametrize("elsewhere", [0, 3, 77, 255, -4])
def test_what_is_predicted_in_void_changes_nothing(elsewhere: int) -> None:
    prediction, truth = random_frames(0, void=0.3)
    changed = np.where(truth == IGNORE_INDEX, elsewhere, prediction)
    assert (changed != prediction).mean() > 0.1
    assert counted(changed, truth) == counted(prediction, truth)


def test_frames_that_are_entirely_void_or_empty_count_nothing() -> None:
    for truth in (np.full((6, 7), IGNORE_INDEX), np.empty((0, 4), np.int64), np.empty((4, 0), np.int64)):
        metric = scored(np.zeros_like(truth), truth)
        assert not metric.unions.any()
        assert all(math.isnan(scores["mean"]) for scores in metric.compute().values())


@pytest.mark.parametrize("ignore_index", [-1, 0, 3, 300])
def test_void_may_have_another_value(ignore_index: int) -> None:
    prediction, truth = random_frames(0, void=0)
    truth[5:20, 5:30] = ignore_index
    expected = counts_by_mask(prediction, truth, ignore_index=ignore_index)
    assert counted(prediction, truth, ignore_index=ignore_index) == expected


@pytest.mark.parametrize("num_classes", [1, 63, 64, 255, 256, 300])
def test_counts_are_right_for_any_number_of_classes(num_classes: int) -> None:
    """At these the labels or the codes of two maps need a wider integer."""
    rng = np.random.default_rng(0)
    truth = np.kron(rng.integers(0, num_classes, (5, 6)), np.ones((7, 7), np.int64))
    truth[:3] = -1
    prediction = np.where(rng.random(truth.shape) < 0.9, truth, rng.integers(0, num_classes, truth.shape))
    expected = counts_by_mask(prediction, truth, (1, 3), num_classes=num_classes, ignore_index=-1)
    assert counted(prediction, truth, (1, 3), num_classes, -1) == expected


def test_distances_come_back_in_the_order_they_were_given() -> None:
    prediction, truth = random_frames(0)
    distances = (9, 0.02, 1, 9)
    assert counted(prediction, truth, distances) == counts_by_mask(prediction, truth, distances)
    assert list(scored(prediction, truth, distances).compute()) == [9, 0.02, 1]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_any_integer_type_gives_the_same_counts(dtype: DTypeLike) -> None:
    prediction, truth = random_frames(0)
    truth = np.where(truth == IGNORE_INDEX, 100, truth)
    expected = counts_by_mask(prediction, truth, ignore_index=100)
    assert counted(prediction.astype(dtype), truth.astype(dtype), ignore_index=100) == expected


def test_a_view_gives_the_counts_of_its_copy_and_stays_as_it_was() -> None:
    prediction, truth = random_frames(1)
    before = prediction.copy(), truth.copy()
    for cut in (np.s_[3:21, 5:40], np.s_[::2, ::3], np.s_[::-1]):
        assert counted(prediction[cut], truth[cut]) == counted(prediction[cut].copy(), truth[cut].copy())
    np.testing.assert_array_equal((prediction, truth), before)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_tensors_and_batches_give_what_their_frames_give(dtype: torch.dtype) -> None:
    frames = [random_frames(seed) for seed in range(3)]
    one_by_one, batched, mixed = (BoundaryIoU(K, DISTANCES) for _ in range(3))
    for pair in frames:
        one_by_one.update(*pair)
    predictions, truths = (torch.from_numpy(np.stack(maps)).to(dtype) for maps in zip(*frames, strict=True))
    batched.update(predictions, truths)
    mixed.update(predictions, truths.numpy())
    assert as_lists(batched) == as_lists(mixed) == as_lists(one_by_one)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_tensor_on_the_gpu_counts_as_on_the_cpu() -> None:
    prediction, truth = map(torch.from_numpy, random_frames(0))
    metric = BoundaryIoU(K, DISTANCES)
    metric.update(prediction.cuda(), truth.cuda())
    assert as_lists(metric) == counted(prediction.numpy(), truth.numpy())
    assert metric.unions.device.type == "cpu"


def test_merging_equals_one_pass_and_leaves_the_other_as_it_was() -> None:
    frames = [random_frames(seed) for seed in range(5)]
    together, first, other = (BoundaryIoU(K, DISTANCES) for _ in range(3))
    for pair in frames:
        together.update(*pair)
    for pair in frames[:2]:
        first.update(*pair)
    for pair in frames[2:]:
        other.update(*pair)
    before = as_lists(other)
    first.merge(other)
    assert as_lists(first) == as_lists(together)
    first.update(*frames[0])
    assert as_lists(other) == before


def test_state_is_two_integer_tensors_and_scores_are_plain_numbers() -> None:
    metric = scored(*random_frames(0))
    for counts in (metric.intersections, metric.unions):
        assert (counts.dtype, counts.shape, counts.device.type) == (torch.int64, (len(DISTANCES), K), "cpu")
    for distance, scores in metric.compute().items():
        assert {type(value) for value in [scores["mean"], *scores["per_class"]]} == {float}
        assert type(distance) in (int, float)


def test_after_a_reset_only_what_comes_later_counts() -> None:
    metric = scored(*random_frames(0))
    metric.reset()
    assert not (metric.intersections.any() or metric.unions.any())
    metric.update(*random_frames(1))
    assert as_lists(metric) == counted(*random_frames(1))


@pytest.mark.parametrize(
    ("distances", "message"),
    [((), "empty"), ((3, 0), "has 0"), ((-2,), "has -2"), ((2.5,), "2.5"), ((1.0,), "1.0"), ((0.0,), "0.0")],
)
def test_distances_that_are_neither_pixels_nor_shares_are_an_error(
    distances: tuple[Distance, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=f"distances .*{message}"):
        BoundaryIoU(K, distances)


def test_no_class_is_an_error() -> None:
    with pytest.raises(ValueError, match="num_classes is 0"):
        BoundaryIoU(0)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (BoundaryIoU(6), "num_classes is 5 here and 6"),
        (BoundaryIoU(5, (3, 0.02)), r"distances is \(3,\) here and \(3, 0.02\)"),
        (BoundaryIoU(5, ignore_index=-1), "ignore_index is 255 here and -1"),
    ],
)
def test_only_equal_settings_can_be_merged(other: BoundaryIoU, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BoundaryIoU(5).merge(other)
