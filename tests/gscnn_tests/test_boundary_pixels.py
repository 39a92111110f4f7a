import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import DTypeLike, NDArray
from scipy.ndimage import binary_dilation

from gscnn.constants import IGNORE_INDEX
from gscnn.metrics import BoundaryCounts, boundary_counts, boundary_pixels

K = 5
RADII = (3, 5, 9, 12)
SMALL_SHAPES = ((1, 1), (1, 7), (6, 1), (2, 2), (5, 6))

Frame = NDArray[np.integer]


def random_frames(seed: int, shape: tuple[int, int] = (40, 53), void: float = 0.1) -> tuple[Frame, Frame]:
    """Prediction and truth: patches of 7x7 pixels, moved by up to 3 between the two, and one pixel of 50 of any class.

    Patches of the truth are void, in the share asked for, and one pixel of 50.
    """
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, K, (shape[0] // 7 + 2, shape[1] // 7 + 2))
    large = np.kron(patches, np.ones((7, 7), np.int64))
    frames = []
    for _ in range(2):
        top, left = rng.integers(0, 4, 2)
        frame = large[top : top + shape[0], left : left + shape[1]]
        frames.append(np.where(rng.random(shape) < 1 / 50, rng.integers(0, K, shape), frame))
    hidden = np.kron(rng.random(patches.shape) < void, np.ones((7, 7), bool))[: shape[0], : shape[1]]
    hidden |= rng.random(shape) < 1 / 50 * (void > 0)
    return frames[0], np.where(hidden, IGNORE_INDEX, frames[1])


def masks_of(prediction: Frame, truth: Frame, value: int, ignore_index: int) -> list[NDArray[np.bool_]]:
    return [(frame == value) & (truth != ignore_index) for frame in (prediction, truth)]


def boundary_by_slices(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The definition, a row and a column of the frame's end at a time."""
    boundary = np.zeros(mask.shape, bool)
    here, east, south, southeast = mask[:-1, :-1], mask[:-1, 1:], mask[1:, :-1], mask[1:, 1:]
    boundary[:-1, :-1] = (here ^ east) | (here ^ south) | (here ^ southeast)
    boundary[-1, :-1] = mask[-1, :-1] ^ mask[-1, 1:]
    boundary[:-1, -1] = mask[:-1, -1] ^ mask[1:, -1]
    return boundary


def brute_counts(
    prediction: Frame, truth: Frame, num_classes: int, radii: Sequence[int], ignore_index: int = IGNORE_INDEX
) -> dict[str, list]:
    """A dilation by a disk per class, map and radius."""
    predicted, true = np.zeros(num_classes, np.int64), np.zeros(num_classes, np.int64)
    matched_predicted, matched_true = np.zeros((2, len(radii), num_classes), np.int64)
    for value in range(num_classes):
        ours, theirs = map(boundary_by_slices, masks_of(prediction, truth, value, ignore_index))
        predicted[value], true[value] = ours.sum(), theirs.sum()
        for row, radius in enumerate(radii):
            y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
            disk = x**2 + y**2 <= radius**2
            matched_predicted[row, value] = (ours & np.asarray(binary_dilation(theirs, disk), bool)).sum()
            matched_true[row, value] = (theirs & np.asarray(binary_dilation(ours, disk), bool)).sum()
    return as_lists(BoundaryCounts(predicted, true, matched_predicted, matched_true))


def pixel_loop_counts(prediction: Frame, truth: Frame, num_classes: int, radii: Sequence[int]) -> dict[str, list]:
    """Every boundary pixel against every other."""
    height, width = truth.shape

    def boundary(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
        found = []
        for y, x in itertools.product(range(height), range(width)):
            neighbours = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            if any(b < height and a < width and mask[b, a] != mask[y, x] for b, a in neighbours):
                found.append((y, x))
        return found

    def near(one: list[tuple[int, int]], others: list[tuple[int, int]], radius: int) -> int:
        return sum(any(math.dist(pixel, other) <= radius for other in others) for pixel in one)

    pairs = [list(map(boundary, masks_of(prediction, truth, k, IGNORE_INDEX))) for k in range(num_classes)]
    return {
        "predicted": [len(ours) for ours, _ in pairs],
        "truth": [len(theirs) for _, theirs in pairs],
        "matched_predicted": [[near(ours, theirs, radius) for ours, theirs in pairs] for radius in radii],
        "matched_truth": [[near(theirs, ours, radius) for ours, theirs in pairs] for radius in radii],
    }


def as_lists(counts: BoundaryCounts) -> dict[str, list]:
    return {name: values.tolist() for name, values in vars(counts).items()}


def counted(prediction: Frame, truth: Frame, num_classes: int = K, radii: Sequence[int] = RADII) -> dict[str, list]:
    return as_lists(boundary_counts(prediction, truth, num_classes, radii))


@pytest.mark.parametrize("void", [0, 0.1, 0.6])
@pytest.mark.parametrize("seed", range(3))
def test_counts_equal_a_dilation_per_class_and_radius(seed: int, void: float) -> None:
    prediction, truth = random_frames(seed, void=void)
    expected = brute_counts(prediction, truth, K, RADII)
    assert 0 < sum(expected["matched_truth"][0]) < sum(expected["matched_truth"][-1]) <= sum(expected["truth"])
    assert counted(prediction, truth) == expected


@pytest.mark.parametrize("shape", SMALL_SHAPES)
@pytest.mark.parametrize("seed", range(4))
def test_counts_of_tiny_frames_equal_a_pixel_loop_even_where_the_disk_is_larger(
    seed: int, shape: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    prediction = rng.integers(0, 3, shape)
    truth = rng.choice(np.array([0, 1, 2, IGNORE_INDEX]), shape)
    radii = (1, 2, 3, 7, 1000)
    assert counted(prediction, truth, 3, radii) == pixel_loop_counts(prediction, truth, 3, radii)


@pytest.mark.parametrize("radius", [1, 2, 3, 4, 5, 9, 12])
def test_two_pixels_match_in_the_disk_and_nowhere_else(radius: int) -> None:
    """A class of one pixel in each map, at every offset up to past the disk; its boundary are that pixel and three."""
    corners = list(itertools.product((-1, 0), repeat=2))
    centre = radius + 4
    prediction = np.zeros((2 * centre + 1, 2 * centre + 1), np.uint8)
    prediction[centre, centre] = 1
    for y, x in itertools.product(range(-radius - 3, radius + 4), repeat=2):
        truth = np.zeros_like(prediction)
        truth[centre + y, centre + x] = 1
        near = sum(any(math.dist((b, a), (y + d, x + c)) <= radius for d, c in corners) for b, a in corners)
        assert boundary_counts(prediction, truth, 2, (radius,)).matched_predicted.tolist() == [[near, near]]


@pytest.mark.parametrize("num_classes", [9, 17, 33, 64, 65, 255, 300])
def test_counts_are_right_for_any_number_of_classes(num_classes: int) -> None:
    """At these the bits of the classes need a wider integer, or a second one, or the labels themselves do."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, num_classes, (31, 37))
    truth[:3] = -1
    prediction = np.where(rng.random(truth.shape) < 0.5, truth, rng.integers(0, num_classes, truth.shape))
    counts = boundary_counts(prediction, truth, num_classes, (1, 3), ignore_index=-1)
    assert as_lists(counts) == brute_counts(prediction, truth, num_classes, (1, 3), ignore_index=-1)


@pytest.mark.parametrize("pixels", [1, 300, 1000])
def test_strips_do_not_show(pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of a real size are cut into strips; here they are as low as the largest radius."""
    prediction, truth = random_frames(0, (64, 31))
    whole = counted(prediction, truth)
    monkeypatch.setattr(boundary_pixels, "STRIP_PIXELS", pixels)
    assert counted(prediction, truth) == whole
    assert counted(prediction, truth, radii=(1, 2)) == brute_counts(prediction, truth, K, (1, 2))


def test_a_class_of_the_last_row_alone_is_counted() -> None:
    """None of the boundary pixels has it: they only look at it."""
    prediction, truth = np.zeros((2, 4, 5), np.uint8)
    prediction[3], truth[3, 4] = 2, 2
    assert counted(prediction, truth, 3) == brute_counts(prediction, truth, 3, RADII)


def test_radii_come_back_in_the_order_they_were_asked_for() -> None:
    prediction, truth = random_frames(0)
    assert counted(prediction, truth, radii=(9, 2, 9)) == brute_counts(prediction, truth, K, (9, 2, 9))


@pytest.mark.parametrize("truth", [np.empty((0, 4), np.int64), np.empty((4, 0), np.int64), np.full((3, 4), 255)])
def test_void_and_empty_frames_have_no_boundary(truth: Frame) -> None:
    counts = counted(np.zeros_like(truth), truth)
    assert np.sum(counts["predicted"]) == np.sum(counts["truth"]) == np.sum(counts["matched_truth"]) == 0


def test_counts_are_int64_arrays() -> None:
    counts = boundary_counts(*random_frames(0), K, RADII)
    assert {values.dtype for values in vars(counts).values()} == {np.dtype(np.int64)}
    assert counts.matched_predicted.shape == counts.matched_truth.shape == (len(RADII), K)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_any_integer_type_gives_the_same_counts(dtype: DTypeLike) -> None:
    prediction, truth = random_frames(0)
    truth = np.where(truth == IGNORE_INDEX, 100, truth)
    expected = brute_counts(prediction, truth, K, RADII, ignore_index=100)
    counts = boundary_counts(prediction.astype(dtype), truth.astype(dtype), K, RADII, ignore_index=100)
    assert as_lists(counts) == expected


def test_a_view_gives_the_counts_of_its_copy_and_stays_as_it_was() -> None:
    prediction, truth = random_frames(1)
    before = prediction.copy(), truth.copy()
    for cut in (np.s_[3:21, 5:40], np.s_[::2, ::3], np.s_[::-1]):
        expected = counted(prediction[cut].copy(), truth[cut].copy())
        assert counted(prediction[cut], truth[cut]) == expected
    assert counted(prediction.T, truth.T) == counted(prediction.T.copy(), truth.T.copy())
    np.testing.assert_array_equal((prediction, truth), before)


@pytest.mark.parametrize("elsewhere", [0, 3, 77, 255, -4])
def test_what_is_predicted_in_void_changes_nothing(elsewhere: int) -> None:
    prediction, truth = random_frames(0, void=0.3)
    changed = np.where(truth == IGNORE_INDEX, elsewhere, prediction)
    assert (changed != prediction).mean() > 0.1
    assert counted(changed, truth) == counted(prediction, truth)


@pytest.mark.parametrize("ignore_index", [-1, 0, 3, 300])
def test_void_may_have_another_value(ignore_index: int) -> None:
    prediction, truth = random_frames(0, void=0)
    truth[5:20, 5:30] = ignore_index
    counts = boundary_counts(prediction, truth, K, RADII, ignore_index)
    assert as_lists(counts) == brute_counts(prediction, truth, K, RADII, ignore_index)
