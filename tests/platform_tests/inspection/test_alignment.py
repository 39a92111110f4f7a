"""The best shift of a label is found, and an aligned label is never called shifted."""

import numpy as np
import pytest

from gscnn_platform.data.formats.streets import Streets
from gscnn_platform.inspection.alignment import Shift, common_shift, correlation, shift_of
from tests.layouts import random_image, random_label

SCENES = Streets(height=192, width=256, train=12)


def scenes() -> list[tuple[np.ndarray, np.ndarray]]:
    return [sample.read() for sample in SCENES.samples(None, "train")]


def brute_force(image: np.ndarray, label: np.ndarray, reach: int) -> np.ndarray:
    """Correlation coefficients of the label's outlines, moved back by each shift, with the image's edges, in float64
    from slices."""
    import cv2

    from gscnn.edges import boundary_map
    from gscnn_platform.inspection.alignment import _edges

    outlines = cv2.GaussianBlur(boundary_map(label, 1).astype(np.float32), (0, 0), 1).astype(np.float64)
    edges = _edges(image).astype(np.float64)
    height, width = label.shape
    inner = outlines[reach : height - reach, reach : width - reach].ravel()
    shifts = range(-reach, reach + 1)
    return np.array(
        [
            [
                np.corrcoef(
                    inner,
                    edges[reach - down : height - reach - down, reach - right : width - reach - right].ravel(),
                )[0, 1]
                for right in shifts
            ]
            for down in shifts
        ]
    )


def test_the_correlation_is_that_of_slices_in_float64() -> None:
    image, label = Streets(height=64, width=72, train=1).samples(None, "train")[0].read()
    found = correlation(image, np.roll(label, (3, -2), (0, 1)))
    assert found is not None
    expected = brute_force(image, np.roll(label, (3, -2), (0, 1)), len(found.surface) // 2)
    np.testing.assert_allclose(found.surface, expected, atol=2e-4)
    best = np.unravel_index(np.argmax(expected), expected.shape)
    assert (best[0] - 10, best[1] - 10) == (3, -2)


def test_no_aligned_label_seems_shifted() -> None:
    found = [correlation(image, label) for image, label in scenes()]
    assert all(each is not None and shift_of(each) is None for each in found)


@pytest.mark.parametrize(("down", "right"), [(12, 0), (-9, 8), (0, -14)])
def test_most_shifted_labels_are_found_with_their_shift(down: int, right: int) -> None:
    found = [correlation(image, np.roll(label, (down, right), (0, 1))) for image, label in scenes()]
    shifts = [shift_of(each) for each in found if each is not None]
    told = [shift for shift in shifts if shift is not None]
    assert len(told) >= 9
    assert all(np.hypot(shift.down - down, shift.right - right) <= 2 for shift in told)


def test_a_reduced_image_gives_the_shift_in_its_own_pixels() -> None:
    image, label = Streets(height=600, width=800, train=1).samples(None, "train")[0].read()
    found = correlation(image, np.roll(label, (0, 24), (0, 1)))
    assert found is not None
    assert found.factor == 2
    shift = shift_of(found)
    assert shift is not None
    assert (abs(shift.down), abs(shift.right - 24)) <= (2, 4)


def test_labels_that_are_shifted_together_by_little_are_found_by_their_sum() -> None:
    def total(down: int, right: int) -> np.ndarray:
        found = [correlation(image, np.roll(label, (down, right), (0, 1))) for image, label in scenes()]
        return np.sum([each.surface for each in found if each is not None], axis=0)

    assert common_shift(total(0, 0), 1, 12) is None
    assert common_shift(total(1, -1), 1, 12) is None
    assert common_shift(total(-4, 0), 1, 12) == Shift(-4, 0)
    assert common_shift(total(-4, 0), 1, 7) is None


@pytest.mark.parametrize("size", [(40, 60), (140, 200)])
def test_noise_is_never_shifted(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    found = [correlation(random_image(rng, size), random_label(rng, [0, 1, 2], size)) for _ in range(40)]
    assert all(each is None or shift_of(each) is None for each in found)


def test_without_outline_or_edge_there_is_no_correlation() -> None:
    image, label = scenes()[0]
    assert correlation(image, np.zeros_like(label)) is None
    assert correlation(np.full_like(image, 90), label) is None
    assert correlation(image[:20, :20], label[:20, :20]) is None


def test_a_shift_is_written_in_words() -> None:
    assert [str(shift) for shift in (Shift(-4, 12), Shift(3, 0), Shift(0, -2))] == [
        "12 px right, 4 px up",
        "3 px down",
        "2 px left",
    ]
