"""Decodes the run-length encoding of COCO's masks, as lists of numbers and as text.

Runs alternate between outside and inside, outside first (its run may be 0), down the columns, from the left one to the
right. In text, each run after the third is stored as its difference from the one two before it, as a signed number in
groups of 5 bits, the lowest first: a character is 48 plus the group, plus 32 if another group follows. Bit 4 of the
last group is the sign. Source: the description in COCO's maskApi.h; the code here is written from it.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from gscnn_platform.data.formats.shapes import Region, ShapeError

FIRST: Final = 48
MORE, SIGN, BITS = 32, 16, 5


@dataclass(frozen=True)
class RunLengths:
    """A mask of a whole image."""

    runs: np.ndarray
    """Pixels: int64 [N], outside and inside in turn."""
    height: int
    width: int

    def region(self, height: int, width: int) -> Region:
        if (height, width) != (self.height, self.width):
            raise ShapeError(
                f"its mask is {self.width}x{self.height} but the image is {width}x{height} (width x height)"
            )
        inside = np.arange(len(self.runs)) % 2 == 1
        mask = np.repeat(inside, self.runs).reshape(width, height).T
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not len(rows):
            return Region(0, 0, mask[:0, :0])
        # The whole mask would take 2 MB for each of a frame's objects at 2048 x 1024.
        return Region(rows[0], columns[0], mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy())

    def content(self) -> bytes:
        return np.array([self.height, self.width, *self.runs]).tobytes()


def run_lengths(value: Any) -> RunLengths:
    """The mask that a COCO `segmentation` {"size": [height, width], "counts": ...} describes. Raises ShapeError."""
    size, counts = value.get("size"), value.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        raise ShapeError(f"the size of its mask is {size!r}; [height, width] is expected")
    if isinstance(counts, str):
        counts = _decoded(counts)
    if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
        raise ShapeError("the counts of its mask are neither whole numbers nor their text")
    if sum(counts) != size[0] * size[1]:
        raise ShapeError(f"its mask has {sum(counts)} pixels; {size[1]}x{size[0]} are {size[0] * size[1]}")
    return RunLengths(np.array(counts, np.int64), *size)


def _decoded(text: str) -> list[int]:
    """The runs that a text stores. Raises ShapeError."""
    runs: list[int] = []
    value, shift = 0, 0
    for character in text:
        group = ord(character) - FIRST
        if not 0 <= group < 2 * MORE:
            raise ShapeError(f"the counts of its mask contain {character!r}, which no mask has")
        value |= (group & (MORE - 1)) << shift
        shift += BITS
        if group & MORE:
            continue
        if group & SIGN:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value, shift = 0, 0
    if shift:
        raise ShapeError("the counts of its mask end within a number: it is truncated")
    return runs
