import itertools
import math
from typing import cast, get_args

import cv2
import numpy as np
import pytest
from numpy.typing import DTypeLike, NDArray
from scipy.ndimage import distance_transform_edt

from gscnn.config import GradientMethod
from gscnn.constants import IGNORE_INDEX
from gscnn.edges import STRIP_ROWS, boundary_map, image_gradient

RADII = (1, 2, 3, 4)
SMALL_SHAPES = ((1, 1), (1, 5), (6, 1), (2, 3), (3, 2))


def random_label(seed: int, shape: tuple[int, int] = (40, 53), num_classes: int = 5) -> NDArray[np.uint8]:
    """Patches of 13x13 pixels, two of seven void, and one pixel of 150 of any class."""
    rng = np.random.default_rng(seed)
    values = np.array([*range(num_classes), IGNORE_INDEX, IGNORE_INDEX], np.uint8)
    patches = rng.choice(values, (shape[0] // 13 + 1, shape[1] // 13 + 1))
    label = np.kron(patches, np.ones((13, 13), np.uint8))[: shape[0], : shape[1]]
    return np.where(rng.random(shape) < 1 / 150, rng.choice(values, shape), label)


def released_boundary_map(label: NDArray[np.integer], radius: int) -> NDArray[np.uint8]:
    """As the authors' code does it: two Euclidean distance transforms per class, on a frame of one zero pixel.

    A class that is absent has no pixel to be near to. It is skipped, because a distance transform of ones alone has no
    zero to measure from, and what scipy returns for it means nothing.
    """
    edges = np.zeros(label.shape, bool)
    for value in np.unique(label[label != IGNORE_INDEX]):
        mask = np.pad((label == value).astype(np.uint8), 1)
        for side in (mask, 1 - mask):
            distance = np.asarray(distance_transform_edt(side))[1:-1, 1:-1]
            edges |= (distance > 0) & (distance <= radius)
    return edges.astype(np.uint8)


def boundary_pixel_loop(label: NDArray[np.integer], radius: int, ignore_index: int) -> NDArray[np.uint8]:
    """1 where another class, which void is not, lies within `radius` inside the frame."""
    height, width = label.shape
    edges = np.zeros(label.shape, np.uint8)
    disk = [(y, x) for y, x in itertools.product(range(-radius, radius + 1), repeat=2) if math.hypot(y, x) <= radius]
    for row, column in itertools.product(range(height), range(width)):
        for y, x in disk:
            if 0 <= row + y < height and 0 <= column + x < width:
                pair = (label[row, column], label[row + y, column + x])
                if pair[0] != pair[1] and ignore_index not in pair:
                    edges[row, column] = 1
    return edges


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("seed", range(4))
def test_with_void_edges_the_map_is_the_released_codes(seed: int, radius: int) -> None:
    label = random_label(seed)
    expected = released_boundary_map(label, radius)
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(boundary_map(label, radius, void_edges=True), expected)


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("seed", range(2))
def test_without_void_edges_the_map_equals_a_pixel_loop(seed: int, radius: int) -> None:
    label = random_label(seed)
    expected = boundary_pixel_loop(label, radius, IGNORE_INDEX)
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(boundary_map(label, radius), expected)


@pytest.mark.parametrize("shape", SMALL_SHAPES)
@pytest.mark.parametrize("seed", range(4))
def test_frames_smaller_than_the_disk_are_right_too(seed: int, shape: tuple[int, int]) -> None:
    label = np.random.default_rng(seed).choice(np.array([0, 1, IGNORE_INDEX], np.uint8), shape)
    np.testing.assert_array_equal(boundary_map(label, 4), boundary_pixel_loop(label, 4, IGNORE_INDEX))
    np.testing.assert_array_equal(boundary_map(label, 4, void_edges=True), released_boundary_map(label, 4))


@pytest.mark.parametrize("value", [0, 7, 254, IGNORE_INDEX])
def test_one_class_alone_has_no_edge(value: int) -> None:
    assert not boundary_map(np.full((9, 12), value, np.uint8)).any()


@pytest.mark.parametrize("radius", RADII)
def test_with_void_edges_one_class_alone_has_an_edge_at_the_frame(radius: int) -> None:
    edges = boundary_map(np.full((12, 15), 3, np.uint8), radius, void_edges=True)
    expected = np.ones((12, 15), np.uint8)
    expected[radius:-radius, radius:-radius] = 0
    np.testing.assert_array_equal(edges, expected)


@pytest.mark.parametrize("ignore_index", [0, 3, 254])
def test_void_may_have_another_value(ignore_index: int) -> None:
    """Then 255 and 0 are classes like others, though the filters use both as neutral elements."""
    label = np.random.default_rng(0).choice(np.array([0, 3, 254, 255], np.uint8), (12, 14), p=[0.1, 0.1, 0.1, 0.7])
    edges = boundary_map(label, 1, ignore_index)
    np.testing.assert_array_equal(edges, boundary_pixel_loop(label, 1, ignore_index))


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.int32, np.int64])
@pytest.mark.parametrize("void_edges", [False, True])
def test_any_integer_type_gives_the_same_map(dtype: DTypeLike, void_edges: bool) -> None:
    label = np.where(random_label(0) == IGNORE_INDEX, 100, random_label(0)).astype(np.uint8)
    expected = boundary_map(label, 2, 100, void_edges)
    edges = boundary_map(label.astype(dtype), 2, 100, void_edges)
    np.testing.assert_array_equal(edges, expected)
    assert (edges.dtype, expected.dtype) == (np.uint8, np.uint8)


@pytest.mark.parametrize("void_edges", [False, True])
def test_a_view_gives_the_map_of_its_copy_and_stays_as_it_was(void_edges: bool) -> None:
    label = random_label(1, (40, 50))
    before = label.copy()
    for view in (label[3:21, 5:40], label[::2, ::3], label.T):
        expected = boundary_map(np.ascontiguousarray(view), void_edges=void_edges)
        np.testing.assert_array_equal(boundary_map(view, void_edges=void_edges), expected)
    np.testing.assert_array_equal(label, before)


@pytest.mark.parametrize("radius", [0, -2])
def test_a_radius_below_one_is_an_error(radius: int) -> None:
    with pytest.raises(ValueError, match=f"radius is {radius}"):
        boundary_map(random_label(0), radius)


@pytest.mark.parametrize("value", [-1, 256])
def test_a_value_beyond_a_byte_is_an_error(value: int) -> None:
    label = np.zeros((4, 5), np.int64)
    label[2, 2] = value
    with pytest.raises(ValueError, match=rf"label holds .*{value}.* need 0 to 255"):
        boundary_map(label)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("label", [np.zeros((4, 5), np.float32), np.zeros((1, 4, 5), np.uint8)])
def test_a_label_that_is_no_map_of_integers_is_an_error(label: NDArray[np.integer]) -> None:
    with pytest.raises(ValueError, match=r"label is .* need integers \[H, W\]"):
        boundary_map(label)


def random_image(seed: int, shape: tuple[int, int] = (20, 24)) -> NDArray[np.uint8]:
    """Blurred noise, so that there are edges of every strength."""
    noise = np.random.default_rng(seed).integers(0, 256, (*shape, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 1.5)
    return cv2.normalize(smooth, smooth, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def sobel_pixel_loop(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Sobel's magnitude in float64 on a mirrored frame: the channels' largest, over the largest that can be."""
    weights = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]], np.float64)
    padded = np.pad(image.astype(np.float64), ((1, 1), (1, 1), (0, 0)), mode="reflect")
    height, width, channels = image.shape
    magnitude = np.zeros((height, width))
    for row, column, channel in itertools.product(range(height), range(width), range(channels)):
        patch = padded[row : row + 3, column : column + 3, channel]
        here = math.hypot((patch * weights).sum(), (patch * weights.T).sum())
        magnitude[row, column] = max(magnitude[row, column], here)
    return magnitude / (255 * math.sqrt(20))


@pytest.mark.parametrize("shape", [(60, 80), (STRIP_ROWS, 9), (STRIP_ROWS + 1, 50), (3 * STRIP_ROWS + 5, 40), (70, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_canny_is_opencvs_on_the_raw_image_whatever_the_strips(seed: int, shape: tuple[int, int]) -> None:
    image = random_image(seed, shape)
    gradient = image_gradient(image, "canny")
    expected = cv2.Canny(image, 10, 100) > 0
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(gradient, expected.astype(np.float32))
    assert gradient.dtype == np.float32


def test_canny_is_the_default() -> None:
    image = random_image(0)
    np.testing.assert_array_equal(image_gradient(image), image_gradient(image, "canny"))


@pytest.mark.parametrize("shape", [(20, 24), (2 * STRIP_ROWS + 1, 7)])
@pytest.mark.parametrize("seed", range(2))
def test_sobel_equals_a_pixel_loop_whatever_the_strips(seed: int, shape: tuple[int, int]) -> None:
    image = random_image(seed, shape)
    gradient = image_gradient(image, "sobel")
    np.testing.assert_allclose(gradient, sobel_pixel_loop(image), atol=1e-6)
    assert gradient.dtype == np.float32


def test_sobel_of_any_patch_is_at_most_one_and_of_the_worst_exactly_one() -> None:
    """Every 3x3 patch of 0 and 255: a magnitude is convex in the pixels, so no value between them gives more."""
    largest = 0.0
    for bits in itertools.product((0, 255), repeat=9):
        patch = np.repeat(np.array(bits, np.uint8).reshape(3, 3, 1), 3, axis=2)
        largest = max(largest, float(image_gradient(patch, "sobel")[1, 1]))
    assert largest == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_sobel_of_the_harshest_noise_stays_in_the_unit_interval(seed: int) -> None:
    noise = np.random.default_rng(seed).choice(np.array([0, 255], np.uint8), (64, 64, 3))
    gradient = image_gradient(noise, "sobel")
    assert gradient.min() >= 0
    assert gradient.max() <= 1


def test_sobel_of_a_crop_is_the_crop_of_sobel() -> None:
    """Its scale does not depend on the crop: only the crop's outermost pixels see another neighbourhood."""
    image = random_image(0, (40, 50))
    whole = image_gradient(image, "sobel")[10:30, 12:40]
    crop = image_gradient(np.ascontiguousarray(image[10:30, 12:40]), "sobel")
    np.testing.assert_array_equal(crop[1:-1, 1:-1], whole[1:-1, 1:-1])


@pytest.mark.parametrize("method", get_args(GradientMethod))
def test_a_flat_image_has_no_gradient(method: GradientMethod) -> None:
    assert not image_gradient(np.full((8, 9, 3), 77, np.uint8), method).any()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "image",
    [np.zeros((8, 9, 3), np.float32), np.zeros((8, 9), np.uint8), np.zeros((8, 9, 4), np.uint8)],
    ids=["float", "grey", "alpha"],
)
def test_an_image_that_is_not_uint8_rgb_is_an_error(image: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"image is .* need uint8 \[H, W, 3\]"):
        image_gradient(image)


@pytest.mark.usefixtures("unchecked")
def test_an_unknown_method_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'scharr'.*canny or sobel"):
        image_gradient(random_image(0), cast(GradientMethod, "scharr"))
