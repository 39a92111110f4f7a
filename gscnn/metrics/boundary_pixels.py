"""Boundary pixels of two label maps, matched within a disk: exact counts, for all classes at once.

A boundary pixel carries one bit for each class whose outline passes through it, so that one integer holds its classes,
and dilating all of them is an OR. Few pixels are boundary (1 to 4% of a street scene), and most of them have a match
nearby: only those that no smaller disk has matched search further, a 4x4 square at a time. The frame is processed in
strips of rows that fit into the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from jaxtyping import Int64
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from gscnn.constants import IGNORE_INDEX
from gscnn.metrics.labels import require_label_maps, write_labels

STRIP_PIXELS: Final = 1 << 18
"""Pixels of a strip without its margin. At 2048x1024, twice as many took 1.5 times as long, half as many 1.2 times."""

SIDE: Final = 4
"""Side of the square in pixels, a power of two: a disk of 3 px takes 8 lookups, not 29, and of 12 px 53, not 441."""

MOST_BITS: Final = 64


@dataclass(frozen=True)
class BoundaryCounts:
    """Boundary pixels of one image, per class; R radii in the given order, K classes."""

    predicted: Int64[np.ndarray, " K"]
    """Boundary pixels of the prediction."""
    truth: Int64[np.ndarray, " K"]
    """Boundary pixels of the ground truth."""
    matched_predicted: Int64[np.ndarray, "R K"]
    """Those of the prediction with a boundary pixel of the ground truth in their disk."""
    matched_truth: Int64[np.ndarray, "R K"]
    """Those of the ground truth with a boundary pixel of the prediction in their disk."""


def require_radii(radii: Sequence[int]) -> tuple[int, ...]:
    """The radii, unchanged. Raises ValueError if there are none, or if one is not a positive integer."""
    if not radii:
        raise ValueError("radii is empty: need one radius or more, in pixels")
    for radius in radii:
        if not isinstance(radius, int | np.integer) or radius < 1:
            raise ValueError(f"radii has {radius!r}: need positive integers, in pixels")
    return tuple(int(radius) for radius in radii)


def boundary_counts(
    prediction: NDArray[np.integer],
    truth: NDArray[np.integer],
    num_classes: int,
    radii: Sequence[int],
    ignore_index: int = IGNORE_INDEX,
) -> BoundaryCounts:
    """Boundary pixels of each class, and how many of them match one of the other map within each radius.

    A class is a binary mask, in which void counts as background in both maps. A pixel is boundary if it differs from
    its east, south or south-east neighbour in the mask; the last row compares east only, the last column south only.
    Two boundary pixels match if dx^2 + dy^2 <= radius^2.

    Args:
        prediction: train ids [H, W], of any integer type.
        truth: train ids [H, W], of any integer type.
        num_classes: K.
        radii: of the disk, in pixels; the time grows with the square of the largest.
        ignore_index: value of void in the ground truth.

    Raises:
        ValueError: the shapes differ or are not [H, W], the values are not integers, one is neither a class nor, in the
            truth, void, or a radius is not a positive integer. On void pixels, the prediction may have any value.
    """
    require_label_maps(prediction, truth)
    height, width = truth.shape
    # Beyond the frame's diagonal there is nothing more to reach.
    within = [min(radius, height + width) for radius in require_radii(radii)]
    ascending = sorted(set(within))
    boundary = np.zeros((2, num_classes), np.int64)
    unmatched = np.zeros((len(ascending), 2, num_classes), np.int64)
    rows = max(STRIP_PIXELS // max(width, 1), ascending[-1])
    for top in range(0, height if width else 0, rows):
        strip = range(top, min(top + rows, height))
        for classes, counts in _strip_counts(prediction, truth, strip, num_classes, ascending, ignore_index):
            boundary[:, classes] += counts[0]
            unmatched[:, :, classes] += counts[1:]
    matched = boundary - unmatched[[ascending.index(radius) for radius in within]]
    return BoundaryCounts(boundary[0], boundary[1], matched[:, 0], matched[:, 1])


def _strip_counts(
    prediction: NDArray[np.integer],
    truth: NDArray[np.integer],
    strip: range,
    num_classes: int,
    radii: Sequence[int],
    ignore_index: int,
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.int64]]]:
    """Classes [N] and counts [1 + R, 2, N] of the boundary pixels in these rows: all, then those no disk has matched.

    Both maps are in one array, the truth `half` elements after the prediction, each with `reach` rows around the strip
    and `reach` columns between rows, so that no lookup needs a bounds check.
    """
    reach = radii[-1]
    labels, inside = _stacked(prediction, truth, strip, num_classes, reach, ignore_index)
    half, stride, width = labels[0].size, labels.shape[2], truth.shape[1]
    at = _boundary_pixels(labels, inside, width)
    if not at.size:
        return
    flat = labels.reshape(-1)
    seen = np.zeros(num_classes + 1, bool)
    seen[flat.take(at)] = True
    # A class that borders on boundary pixels and has none itself continues southwards to the last row read.
    seen[labels[:, inside.stop, :width]] = True
    classes = seen[:num_classes].nonzero()[0]
    rows = reach * stride, (reach + len(strip)) * stride
    start, stop, other_start, other_stop = np.searchsorted(at, [*rows, half + rows[0], half + rows[1]]).tolist()
    # Each pixel searches the other map; a lookup's offset starts `reach` rows and columns before the pixel.
    ask = np.concatenate([at[start:stop] + half, at[other_start:other_stop] - half]) - reach * stride
    for first in range(0, classes.size, MOST_BITS):
        chunk = classes[first : first + MOST_BITS]
        bits = _bits(chunk.size)
        code_of = np.zeros(num_classes + 1, bits.dtype)
        code_of[chunk] = bits
        own, code = code_of.take(flat.take(at)), np.zeros(at.size, bits.dtype)
        for step in (1, stride, stride + 1):
            neighbour = code_of.take(flat[step:].take(at))
            neighbour ^= own
            code |= neighbour
        codes = np.zeros(reach + flat.size, bits.dtype)
        codes[reach:][at] = code
        asking = np.concatenate([code[start:stop], code[other_start:other_stop]])
        yield chunk, _match(codes, stride, ask, asking, stop - start, radii, bits)


def _match(
    codes: NDArray[np.unsignedinteger],
    stride: int,
    ask: NDArray[np.intp],
    left: NDArray[np.unsignedinteger],
    split: int,
    radii: Sequence[int],
    bits: NDArray[np.unsignedinteger],
) -> NDArray[np.int64]:
    """How many of the codes `left` have each bit, [1 + R, 2, N]: first all, then those that no disk in `codes` has.

    `ask` holds the pixels' positions in `codes`, minus the largest radius in rows and columns. The first `split` are
    the prediction's.
    """
    reach = radii[-1]
    looks = {1: codes, SIDE: _squares(codes, stride)}
    counts = [_count(left, split, bits)]
    matched = -1
    for radius in radii:
        found = np.zeros_like(left)
        for side, row, column in _cover(radius, matched):
            # All positions are in range; not checking them saves a fifth of the time.
            found |= looks[side][(row + reach) * stride + column + reach :].take(ask, mode="wrap")
        np.bitwise_not(found, out=found)
        left = left & found
        keep = left.nonzero()[0]
        split = int(np.searchsorted(keep, split))
        ask, left, matched = ask.take(keep), left.take(keep), radius**2
        counts.append(_count(left, split, bits))
    return np.stack(counts)


def _stacked(
    prediction: NDArray[np.integer],
    truth: NDArray[np.integer],
    strip: range,
    num_classes: int,
    reach: int,
    ignore_index: int,
) -> tuple[NDArray[np.unsignedinteger], range]:
    """Labels [2, rows + 2 reach + 1, W + reach] with void as K, and the rows in which the frame has boundary pixels.

    One row and one column past the frame repeat its last ones, so that no pixel in those differs from them.
    """
    height, width = truth.shape
    above, below = max(strip.start - reach, 0), min(strip.stop + reach + 1, height)
    first = above - (strip.start - reach)
    end = first + below - above
    shape = (2, len(strip) + 2 * reach + 1, width + reach)
    labels = np.full(shape, num_classes, np.min_scalar_type(num_classes))
    write_labels(prediction, truth, slice(above, below), num_classes, ignore_index, labels[:, first:end, :width])
    labels[:, :, width] = labels[:, :, width - 1]
    if end < labels.shape[1]:
        labels[:, end] = labels[:, end - 1]
    return labels, range(first, min(end, labels.shape[1] - 1))


def _boundary_pixels(labels: NDArray[np.unsignedinteger], inside: range, width: int) -> NDArray[np.intp]:
    """Flat positions, ascending, of pixels of the frame that differ from their east, south or south-east neighbour."""
    stride = labels.shape[2]
    flat = labels.reshape(-1)
    size = flat.size - stride - 1
    differs = np.zeros(labels.shape, bool)
    out, other = differs.reshape(-1)[:size], np.empty(size, bool)
    np.not_equal(flat[:size], flat[1 : 1 + size], out=out)
    for step in (stride, stride + 1):
        np.not_equal(flat[:size], flat[step : step + size], out=other)
        np.logical_or(out, other, out=out)
    differs[:, :, width:] = False
    differs[:, : inside.start] = False
    differs[:, inside.stop :] = False
    return differs.reshape(-1).nonzero()[0]


def _bits(number: int) -> NDArray[np.unsignedinteger]:
    """1, 2, 4, ... in the narrowest type that holds them: half as wide is about twice as fast."""
    dtype = next(t for t in (np.uint8, np.uint16, np.uint32, np.uint64) if number <= 8 * np.dtype(t).itemsize)
    return np.left_shift(dtype(1), np.arange(number, dtype=dtype))


def _squares(codes: NDArray[np.unsignedinteger], stride: int) -> NDArray[np.unsignedinteger]:
    """OR over the SIDE x SIDE pixels from each position to the south-east, by doubling."""
    for axis in (1, stride):
        for doubling in range(SIDE.bit_length() - 1):
            step = axis << doubling
            codes = codes[:-step] | codes[step:]
    return codes


def _count(codes: NDArray[np.unsignedinteger], split: int, bits: NDArray[np.unsignedinteger]) -> NDArray[np.int64]:
    """How many codes have each bit, [2, N]: up to `split`, and from there on."""
    return np.array([[np.count_nonzero(part & bit) for bit in bits] for part in (codes[:split], codes[split:])])


@cache
def _cover(radius: int, matched: int) -> tuple[tuple[int, int, int], ...]:
    """Squares in the disk that cover its pixels of squared distance above `matched`: side, first row, first column.

    The largest gain first, then single pixels.
    """
    offsets = np.arange(-radius - SIDE, radius + SIDE + 1)
    distance = offsets[:, None] ** 2 + offsets**2
    wanted = (distance <= radius**2) & (distance > matched)
    fits = sliding_window_view(distance <= radius**2, (SIDE, SIDE)).all(axis=(2, 3))
    windows = sliding_window_view(wanted, (SIDE, SIDE))
    squares = []
    while (gain := windows.sum(axis=(2, 3)) * fits).max() > 1:
        row, column = np.unravel_index(gain.argmax(), gain.shape)
        wanted[row : row + SIDE, column : column + SIDE] = False
        squares.append((SIDE, int(offsets[row]), int(offsets[column])))
    squares += [(1, int(offsets[row]), int(offsets[column])) for row, column in np.argwhere(wanted)]
    return tuple(squares)
