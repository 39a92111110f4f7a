"""Draws shapes into a label: a pixel belongs to a shape if its centre lies inside.

Coordinates are those of the annotation tools: x to the right and y down, in pixels, from the top left corner of the
upright image. The pixel in row i and column j covers [j, j + 1) x [i, i + 1), and its centre is (j + 0.5, i + 0.5). A
centre on an outline belongs to the shape on its right, or below it. So two polygons that share an edge share no pixel
and leave no gap, and the mean area of a mask is that of its polygon; cv2.fillPoly also draws the outline, which makes
shapes of 900 pixels 7% larger. What lies outside the image is cut off.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from jaxtyping import Bool, Float64

Points = Float64[np.ndarray, "N 2"]

MOST: Final = 1e9
"""Coordinates of this size and more are errors: they lie outside of every image, and their products overflow."""


class ShapeError(ValueError):
    """A shape cannot be drawn; the message says why, and the caller adds the file and the shape's number."""


@dataclass(frozen=True)
class Region:
    """Pixels of a label: a mask, and the row and column of its first pixel."""

    top: int
    left: int
    mask: Bool[np.ndarray, "h w"]

    def draw(self, label: np.ndarray, value: int) -> None:
        """Sets the pixels in a label [H, W], which contains the mask, to a value."""
        height, width = self.mask.shape
        label[self.top : self.top + height, self.left : self.left + width][self.mask] = value


class Shape(Protocol):
    def region(self, height: int, width: int) -> Region:
        """The shape's pixels in an image of this size. Raises ShapeError if it is of another size."""
        ...

    def content(self) -> bytes:
        """All that the region depends on."""
        ...


@dataclass(frozen=True)
class Polygons:
    """The union of polygons. Each is closed, and filled by the even-odd rule where it crosses itself."""

    polygons: tuple[Points, ...]

    def region(self, height: int, width: int) -> Region:
        corners = np.concatenate(self.polygons)
        left, top = np.clip(np.floor(corners.min(axis=0)), 0, (width, height)).astype(int)
        right, bottom = np.clip(np.ceil(corners.max(axis=0)), 0, (width, height)).astype(int)
        mask = np.zeros((bottom - top, right - left), bool)
        for points in self.polygons:
            mask |= _filled(points - (left, top), *mask.shape)
        return Region(int(top), int(left), mask)

    def content(self) -> bytes:
        return b"".join(len(points).to_bytes(4) + points.tobytes() for points in self.polygons)


@dataclass(frozen=True)
class Disc:
    x: float
    y: float
    radius: float

    def region(self, height: int, width: int) -> Region:
        left, right = (round(min(max(self.x + reach, 0), width)) for reach in (-self.radius - 1, self.radius + 1))
        top, bottom = (round(min(max(self.y + reach, 0), height)) for reach in (-self.radius - 1, self.radius + 1))
        across, down = np.arange(left, right) + 0.5 - self.x, np.arange(top, bottom) + 0.5 - self.y
        return Region(top, left, down[:, None] ** 2 + across**2 <= self.radius**2)

    def content(self) -> bytes:
        return np.array([self.x, self.y, self.radius]).tobytes()


@dataclass(frozen=True)
class Bitmap:
    """A mask whose first pixel is at a row and column of the image, which may lie outside."""

    top: int
    left: int
    mask: Bool[np.ndarray, "h w"]

    def region(self, height: int, width: int) -> Region:
        top, left = max(self.top, 0), max(self.left, 0)
        rows = slice(top - self.top, max(height - self.top, 0))
        return Region(top, left, self.mask[rows, left - self.left : max(width - self.left, 0)])

    def content(self) -> bytes:
        return np.array([self.top, self.left, *self.mask.shape]).tobytes() + np.packbits(self.mask).tobytes()


def points_of(value: Any) -> Points:
    """Points from JSON, a list of pairs or x and y in turn. Raises ShapeError if they are no finite numbers."""
    if not isinstance(value, list):
        raise ShapeError(f"its points are {value!r}; a list of coordinates is expected")
    try:
        points = np.array(value)
    except ValueError:  # Lists of different lengths.
        points = np.empty(0, object)
    if points.dtype.kind not in "iuf" and value:
        raise ShapeError("its points are not pairs of numbers")
    if points.ndim > 2 or points.size % 2 or points.shape[1:] not in ((), (2,)):
        raise ShapeError(f"its points are not pairs: {points.size} numbers")
    points = points.astype(np.float64).reshape(-1, 2)
    wrong = points[~(np.abs(points) < MOST).all(axis=1)]
    if len(wrong):
        raise ShapeError(f"its point ({wrong[0, 0]:g}, {wrong[0, 1]:g}) lies nowhere; write finite numbers, in pixels")
    return points


def polygon(value: Any) -> Points:
    """A polygon's points from JSON. Raises ShapeError as `points_of`, and for fewer than 3 points."""
    points = points_of(value)
    if len(points) < 3:
        raise ShapeError(f"a polygon of {len(points)} point{'s' * (len(points) != 1)}; 3 or more enclose an area")
    return points


def rectangle(points: Points) -> Points:
    """The corners of the rectangle between two opposite ones."""
    (x1, y1), (x2, y2) = points
    return np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])


def drawn(regions: Sequence[tuple[int, Region]], background: int, height: int, width: int) -> np.ndarray:
    """The label uint8 [H, W] with each region's value on the background; later ones cover earlier ones."""
    label = np.full((height, width), background, np.uint8)
    for value, region in regions:
        region.draw(label, value)
    return label


def _filled(points: Points, height: int, width: int) -> Bool[np.ndarray, "H W"]:
    """The pixels whose centre is inside a polygon by the even-odd rule.

    Each edge changes inside to outside, or back, at all pixels right of it in the rows whose centre line it crosses.
    """
    following = np.roll(points, -1, axis=0)
    # An edge has the same crossings from both of its sides: two polygons that share it are computed alike.
    rising = (points[:, 1] < following[:, 1])[:, None]
    (x1, y1), (x2, y2) = np.where(rising, points, following).T, np.where(rising, following, points).T
    first, end = (np.clip(np.ceil(y - 0.5), 0, height).astype(int) for y in (y1, y2))
    rows = end - first
    edge = np.repeat(np.arange(len(points)), rows)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(rows) - rows - first, rows)
    crossing = x1[edge] + (row + 0.5 - y1[edge]) * ((x2 - x1)[edge] / (y2 - y1)[edge])
    column = np.clip(np.ceil(crossing - 0.5), 0, width).astype(int)
    changes = np.bincount(row * (width + 1) + column, minlength=height * (width + 1)).reshape(height, width + 1)
    return (np.cumsum(changes[:, :width], axis=1) & 1).astype(bool)
