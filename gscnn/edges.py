"""The edge prior of an image and the edge label of a segmentation mask."""

from collections.abc import Iterator
from functools import cache
from math import sqrt
from typing import Final, get_args

import cv2
import numpy as np
from jaxtyping import Float, Integer, UInt8
from numpy.typing import NDArray

from gscnn.config import GradientMethod
from gscnn.constants import IGNORE_INDEX, IMAGE_MEAN, IMAGE_STD

CANNY_THRESHOLDS: Final = (10, 100)
"""The released code's thresholds, which it applies to the normalized image by mistake; here they apply to the raw
one."""

MAX_SOBEL: Final = 255 * sqrt(20)
"""Largest magnitude of a 3x3 Sobel gradient of 8-bit values: |(4, 2)| * 255, reached at a corner's tip."""

STRIP_ROWS: Final = 32
"""Rows whose gradients are computed at once: they fit into a core's L2 cache, which takes a third of the time of whole
2048x1024 frames."""


def image_gradient(image: UInt8[np.ndarray, "H W 3"], method: GradientMethod = "canny") -> Float[np.ndarray, "H W"]:
    """Edge prior in [0, 1], float32, which depends only on each pixel's neighbourhood, not on the rest of the crop.

    `canny`: 1 on the edges that Canny's detector finds with thresholds 10 and 100, else 0, bit for bit as OpenCV's
    `Canny(image, 10, 100)`. (Its hysteresis follows connected edges over any distance.) `sobel`: the largest magnitude
    over the three channels, divided by the largest that 8-bit values can have. `released`: 1 where the prior of the
    authors' released weights has an edge, else 0, with the defect that those weights rely on
    (gscnn.released_weights.released_edge_prior); it exists for them alone, to train a network use another.

    Raises:
        ValueError: the image is not uint8 [H, W, 3], or the method is unknown.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image is {image.dtype} {list(image.shape)}: need uint8 [H, W, 3], RGB as read from the file")
    if method == "canny":
        return (_canny(image) > 0).astype(np.float32)
    if method == "sobel":
        return _sobel(image)
    if method == "released":
        levels = np.stack([_released_levels()[channel][image[..., channel]] for channel in range(3)], axis=-1)
        return (cv2.Canny(levels, *CANNY_THRESHOLDS) > 0).astype(np.float32)
    raise ValueError(f"method is {method!r}: must be {' or '.join(get_args(GradientMethod))}")


@cache
def _released_levels() -> UInt8[np.ndarray, "3 256"]:
    """Each channel's 8-bit values as the released code's cast of the normalized image to 8 bits leaves them."""
    scaled = np.arange(256, dtype=np.float32) / np.float32(255)
    mean, std = np.array([IMAGE_MEAN, IMAGE_STD], np.float32)[:, :, None]
    return ((scaled - mean) / std).astype(np.int32).astype(np.uint8)


def _canny(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W"]:
    """cv2.Canny(image, 10, 100), which takes each pixel's gradient from the channel where |dx| + |dy| is largest."""
    dx, dy = np.empty(image.shape[:2], np.int16), np.empty(image.shape[:2], np.int16)
    for rows, gradients in _gradients(image, cv2.BORDER_REPLICATE):
        (strongest_x, strongest_y), *others = gradients
        largest = cv2.add(np.abs(strongest_x), np.abs(strongest_y))
        for x, y in others:
            strength = cv2.add(np.abs(x), np.abs(y))
            stronger = cv2.compare(strength, largest, cv2.CMP_GT)
            cv2.copyTo(x, stronger, strongest_x)
            cv2.copyTo(y, stronger, strongest_y)
            largest = cv2.max(strength, largest)
        dx[rows], dy[rows] = strongest_x, strongest_y
    return cv2.Canny(dx, dy, *CANNY_THRESHOLDS)


def _sobel(image: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W"]:
    magnitude = np.empty(image.shape[:2], np.float32)
    for rows, gradients in _gradients(image, cv2.BORDER_REFLECT_101):
        red, green, blue = (_squared_norm(x, y) for x, y in gradients)
        np.maximum(red, green, out=red)
        np.sqrt(np.maximum(red, blue, out=red), out=red)
        np.divide(red, np.float32(MAX_SOBEL), out=magnitude[rows])
    return magnitude


def _squared_norm(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Exact in float32: at most 1,300,500, which is below 2**24."""
    across, down = x.astype(np.float32), y.astype(np.float32)
    across *= across
    down *= down
    across += down
    return across


def _gradients(
    image: UInt8[np.ndarray, "H W 3"], border: int
) -> Iterator[tuple[slice, list[tuple[np.ndarray, np.ndarray]]]]:
    """Strips of rows, each with its three channels' 3x3 Sobel derivatives along x and y."""
    height = image.shape[0]
    for top in range(0, height, STRIP_ROWS):
        bottom, first = min(top + STRIP_ROWS, height), max(top - 1, 0)
        inner = slice(top - first, bottom - first)
        channels = cv2.split(image[first : bottom + 1])
        pairs = [cv2.spatialGradient(channel, borderType=border) for channel in channels]
        yield slice(top, bottom), [(x[inner], y[inner]) for x, y in pairs]


def boundary_map(
    label: Integer[np.ndarray, "H W"],
    radius: int = 2,
    ignore_index: int = IGNORE_INDEX,
    void_edges: bool = False,
) -> UInt8[np.ndarray, "H W"]:
    """Edge label: 1 where a pixel of another class lies within Euclidean distance `radius`, else 0.

    A pixel is 1 if the largest and the smallest class over the disk differ, which takes two morphological filters. Void
    is not a class: a void pixel is 0, and its neighbours have no edge with it. With `void_edges`, void and everything
    outside the frame are one more class, as in the authors' released code. That code also treats class 0 differently:
    gscnn.released_weights.released_boundary_map returns its maps bit for bit.

    Args:
        label: class of each pixel, 0 to 255, of any integer type.
        radius: in pixels, 1 or more.
        ignore_index: the value of void.
        void_edges: whether void and the area outside the frame count as one more class.

    Raises:
        ValueError: a radius below 1, values outside 0..255, or a label that is not [H, W] of integers.
    """
    classes = _as_uint8(label)
    if radius < 1:
        raise ValueError(f"radius is {radius}: need 1 pixel or more")
    disk = _disk(radius)
    if void_edges:
        framed = np.pad(classes, radius, constant_values=ignore_index)
        differs = cv2.dilate(framed, disk) != cv2.erode(framed, disk)
        return differs[radius:-radius, radius:-radius].astype(np.uint8)
    void = classes == ignore_index
    # Void is replaced by neutral elements: 0 never changes a maximum, 255 never changes a minimum.
    largest = cv2.dilate(np.where(void, np.uint8(0), classes), disk)
    smallest = cv2.erode(np.where(void, np.uint8(255), classes), disk)
    return ((largest != smallest) & ~void).astype(np.uint8)


def _as_uint8(label: NDArray[np.integer]) -> NDArray[np.uint8]:
    if label.ndim != 2 or not np.issubdtype(label.dtype, np.integer):
        raise ValueError(f"label is {label.dtype} {list(label.shape)}: need integers [H, W]")
    if label.size and label.dtype != np.uint8 and not (label.min() >= 0 and label.max() <= 255):
        raise ValueError(f"label holds {label.min()} to {label.max()}: need 0 to 255")
    return label.astype(np.uint8, copy=False)


@cache
def _disk(radius: int) -> NDArray[np.uint8]:
    offsets = np.arange(-radius, radius + 1)
    return (offsets[:, None] ** 2 + offsets[None, :] ** 2 <= radius**2).astype(np.uint8)
