import cv2
import numpy as np
import pytest

from gscnn_platform.data.formats.shapes import (
    Bitmap,
    Disc,
    Polygons,
    Shape,
    ShapeError,
    drawn,
    points_of,
    polygon,
    rectangle,
)
from tests.layouts import random_polygon

HEIGHT, WIDTH = 40, 60


def mask(shape: Shape, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return drawn([(1, shape.region(height, width))], 0, height, width) == 1


def inside(corners: np.ndarray, x: float, y: float) -> bool:
    """Even-odd rule by a ray to the left, edge by edge."""
    crossings = 0
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if (y1 > y) != (y2 > y) and x >= x1 + (y - y1) * (x2 - x1) / (y2 - y1):
            crossings += 1
    return crossings % 2 == 1


@pytest.mark.parametrize("seed", range(12))
def test_a_pixel_belongs_to_a_polygon_if_its_centre_is_inside_by_the_even_odd_rule(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-15, 75, (7, 2)) if seed % 2 else np.array(random_polygon(rng))  # The first cross themselves.
    expected = [[inside(corners, column + 0.5, row + 0.5) for column in range(WIDTH)] for row in range(HEIGHT)]
    np.testing.assert_array_equal(mask(Polygons((corners,))), expected)


def test_away_from_its_outline_a_polygon_equals_that_of_opencv() -> None:
    for seed in range(20):
        corners = np.array(random_polygon(np.random.default_rng(seed)))
        theirs, outline = np.zeros((HEIGHT, WIDTH), np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
        fixed = ((corners - 0.5) * 256).round().astype(np.int32)  # OpenCV's integers are centres of pixels.
        cv2.fillPoly(theirs, [fixed], 1, shift=8)
        cv2.polylines(outline, [fixed], True, 1, thickness=3, shift=8)
        ours = mask(Polygons((corners,)))
        np.testing.assert_array_equal(ours[outline == 0], theirs[outline == 0] == 1)
        assert ours.sum() < theirs.sum()  # OpenCV draws the outline as well.


def test_the_mean_pixels_of_a_mask_are_the_area_of_its_polygon() -> None:
    rng = np.random.default_rng(0)
    triangle = np.array([(3.0, 4.0), (30.0, 9.0), (12.0, 33.0)])
    area = abs(np.linalg.det(triangle[1:] - triangle[0])) / 2
    pixels = [mask(Polygons((triangle + rng.uniform(0, 1, 2),))).sum() for _ in range(400)]
    assert np.mean(pixels) == pytest.approx(area, rel=2e-3)


def test_polygons_that_share_edges_neither_overlap_nor_leave_a_gap() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        hub, rim = rng.uniform(10, 30, 2), np.array([(0.0, 0.0), (60.0, 0.0), (60.0, 40.0), (0.0, 40.0)])
        parts = [Polygons((np.array([hub, rim[i], rim[(i + 1) % 4]]),)) for i in range(4)]
        reverse = [Polygons((part.polygons[0][::-1],)) for part in parts[2:]]
        np.testing.assert_array_equal(np.sum([mask(part) for part in (*parts[:2], *reverse)], axis=0), 1)


def test_whole_coordinates_enclose_whole_pixels() -> None:
    square = mask(Polygons((np.array([(2.0, 3.0), (7.0, 3.0), (7.0, 9.0), (2.0, 9.0)]),)))
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[3:9, 2:7] = True
    np.testing.assert_array_equal(square, expected)
    np.testing.assert_array_equal(mask(Polygons((rectangle(np.array([(7.0, 3.0), (2.0, 9.0)])),))), expected)


def test_several_polygons_are_their_union() -> None:
    one, other = (np.array(random_polygon(np.random.default_rng(seed))) for seed in (1, 7))
    np.testing.assert_array_equal(mask(Polygons((one, other))), mask(Polygons((one,))) | mask(Polygons((other,))))
    np.testing.assert_array_equal(mask(Polygons((one, one))), mask(Polygons((one,))))


@pytest.mark.parametrize("shift", [(0, 0), (-40, 5), (30, 30), (500, 0), (0, -500)])
def test_what_lies_outside_the_image_is_cut_off(shift: tuple[int, int]) -> None:
    corners = np.array(random_polygon(np.random.default_rng(3))) * 2 + shift
    spot = np.array([*(corners.mean(axis=0)), 11.3])
    bitmap = np.random.default_rng(0).random((30, 25)) > 0.5
    for shape, moved in (
        (Polygons((corners,)), Polygons((corners + 1000,))),
        (Disc(*spot), Disc(spot[0] + 1000, spot[1] + 1000, spot[2])),
        (Bitmap(shift[1] + 20, shift[0] + 20, bitmap), Bitmap(shift[1] + 1020, shift[0] + 1020, bitmap)),
    ):
        whole = mask(moved, 2100, 2100)
        np.testing.assert_array_equal(mask(shape), whole[1000 : 1000 + HEIGHT, 1000 : 1000 + WIDTH])


def test_a_disc_has_the_pixels_whose_centre_is_within_its_radius() -> None:
    expected = [[(x + 0.5 - 20.2) ** 2 + (y + 0.5 - 9.7) ** 2 <= 8.1**2 for x in range(WIDTH)] for y in range(HEIGHT)]
    np.testing.assert_array_equal(mask(Disc(20.2, 9.7, 8.1)), expected)


def test_huge_coordinates_take_no_more_time_or_memory_than_the_image() -> None:
    whole = np.array([(-9e8, -9e8), (9e8, -9e8), (9e8, 9e8), (-9e8, 9e8)])
    assert mask(Polygons((whole,))).all()
    assert mask(Disc(0, 0, 9e8)).all()


def test_later_regions_cover_earlier_ones() -> None:
    left, right = Bitmap(0, 0, np.ones((2, 3), bool)), Bitmap(0, 2, np.ones((2, 2), bool))
    label = drawn([(1, left.region(2, 5)), (7, right.region(2, 5))], 255, 2, 5)
    np.testing.assert_array_equal(label, [[1, 1, 7, 7, 255]] * 2)
    assert label.dtype == np.uint8


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (None, "its points are None; a list"),
        ([[1, 2], [3, 4]], "a polygon of 2 points; 3 or more enclose an area"),
        ([[1, 2]], "a polygon of 1 point; 3"),
        ([], "a polygon of 0 points"),
        ([1, 2, 3, 4, 5], "not pairs: 5 numbers"),
        ([[1, 2, 3], [4, 5, 6], [7, 8, 9], [1, 2, 3]], "not pairs: 12 numbers"),
        ([[1, 2], [3], [4, 5]], "not pairs of numbers"),
        ([["1", "2"], ["3", "4"], ["5", "6"]], "not pairs of numbers"),
        ([[1, 2], [3, float("nan")], [5, 6]], r"its point \(3, nan\) lies nowhere"),
        ([[1, 2], [3, 4], [1e300, 6]], r"its point \(1e\+300, 6\) lies nowhere"),
        ([True, False, True, False, True, False], "not pairs of numbers"),
        ([[[1, 2], [3, 4]], [[1, 2], [3, 4]]], "not pairs: 8 numbers"),
    ],
)
def test_wrong_points_are_rejected_with_the_reason(points: object, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        polygon(points)


def test_points_are_pairs_or_numbers_in_turn() -> None:
    np.testing.assert_array_equal(points_of([1, 2.5, 3, 4]), [(1, 2.5), (3, 4)])
    np.testing.assert_array_equal(points_of([[1, 2.5], [3, 4]]), points_of([1, 2.5, 3, 4]))
