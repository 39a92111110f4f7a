"""Reads colour-coded labels: each pixel's colour is looked up in a table and becomes a train id.

Colours are packed into one integer per pixel, so the look-up in a label of 2048x1024 takes 10 ms, and decoding its PNG
20 ms.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import cv2
import numpy as np

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats.decoding import BadSampleError, read_label_colours
from gscnn_platform.paths import AnyPath

Colour = tuple[int, int, int]

RGB: Final = 0xFFFFFF
"""The bits of a packed colour; the eight bits above are alpha."""
SHOWN: Final = 5
"""Maximum unknown colours that an error lists."""
MANY: Final = 50
"""Unknown colours from which on a label is called inexact: JPEG and resizing make hundreds."""

BORDER: Final = 3
"""Pixels around a region's border that smooth drawing or resizing mixes; doubling a size mixes 2."""
OFF: Final = 2.0
"""Largest distance from a mixture of two colours to the line between them: rounding moves a colour by 0.9."""
NEARBY: Final = 24
"""Maximum known colours near unknown ones that are combined: 276 pairs."""
EXAMINED: Final = 256
"""Maximum unknown colours that are compared with mixtures, the most frequent ones."""
MOSTLY: Final = 0.9
"""Share of the unknown pixels that must be mixtures at a border; corners mix three colours."""


@dataclass(frozen=True)
class ColourTable:
    """The meaning of the colours in a dataset's label files.

    Every label file is read in colours: a grey value v is the colour (v, v, v), and a palette file has the colours of
    its palette, whatever their indices.
    """

    train_ids: Mapping[Colour, int]
    """Colour (RGB, 0..255) -> train id, or IGNORE_INDEX for void."""
    classes: tuple[str, ...]
    """Names in the order of the train ids, for messages."""
    source: AnyPath | str
    """File that the colours are from, for messages."""

    def read(self, path: AnyPath) -> np.ndarray:
        """Train ids uint8 [H, W] of a label file, upright. A fully transparent pixel is void.

        Raises:
            BadSampleError: the file cannot be read in colours, a pixel is partly transparent, or a colour is not in
                the table; the message lists the unknown colours with their numbers of pixels and nearest known colour.
        """
        pixels = read_label_colours(path)
        alpha, colours = pixels[..., 3], pixels.view("<u4")[..., 0] & RGB
        partly = np.count_nonzero((alpha > 0) & (alpha < 255))
        if partly:
            raise BadSampleError(
                f"{path}: {partly} pixels of the label are partly transparent, as anti-aliased borders are; a pixel is "
                "opaque, or fully transparent, which is void: export the label without anti-aliasing"
            )
        # 32 MiB of zeros, of which only the pages of the colours that occur are ever touched.
        lookup = np.zeros(RGB + 1, np.uint16)
        lookup[[_packed(colour) for colour in self.train_ids]] = [1 + train_id for train_id in self.train_ids.values()]
        found = lookup[colours]
        found[alpha == 0] = 1 + IGNORE_INDEX
        if not found.all():
            raise BadSampleError(self._unknown(path, colours, found == 0))
        return (found - 1).astype(np.uint8)

    def content(self) -> bytes:
        """Everything that `read` depends on besides the file, as bytes to hash."""
        return repr(sorted(self.train_ids.items())).encode()

    def _unknown(self, path: AnyPath, colours: np.ndarray, unknown: np.ndarray) -> str:
        """The message about a label uint32 [H, W] of packed colours with pixels `unknown` [H, W]."""
        found = _by_frequency(colours[unknown])
        shown = "; ".join(
            f"{described(colour)} {count} px, nearest {self._nearest(colour)}"
            for colour, count in list(found.items())[:SHOWN]
        )
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        number = "1 colour is" if len(found) == 1 else f"{len(found)} colours are"
        pixels = f" ({np.count_nonzero(unknown)} px)" if len(found) > 1 else ""
        if _are_mixtures(colours, unknown, found):
            advice = (
                "these are mixtures of two colours along the borders of regions, as anti-aliasing or smooth resizing "
                "makes them: export the label without anti-aliasing, and resize it with nearest neighbour"
            )
        elif len(found) >= MANY:
            advice = (
                "so many colours mean that the label was once saved as JPEG or resized smoothly, and is no longer "
                "exact: export it again as PNG, and resize it with nearest neighbour"
            )
        else:
            advice = "add each to the table as a class or void, or correct the label"
        return f"{path}: {number} not in the table of {self.source}{pixels}: {shown}{more}\n{advice}"

    def _nearest(self, colour: Colour) -> str:
        """The known colour with the smallest Euclidean distance and its class, such as `#804080 (road)`."""
        nearest = min(self.train_ids, key=lambda known: sum((a - b) ** 2 for a, b in zip(known, colour, strict=True)))
        train_id = self.train_ids[nearest]
        return f"{as_hex(nearest)} ({'void' if train_id == IGNORE_INDEX else self.classes[train_id]})"


def as_hex(colour: Colour) -> str:
    """The colour as in classes.yaml and the manifest, such as `#804080`."""
    return "#{:02X}{:02X}{:02X}".format(*colour)


def described(colour: Colour) -> str:
    """The colour in both notations, such as `#804080 (128, 64, 128)`."""
    return f"{as_hex(colour)} {colour}"


def colour_counts(path: AnyPath) -> dict[Colour, int]:
    """Pixels of each colour in a label file without its transparent pixels, most frequent first. Raises
    BadSampleError."""
    packed = read_label_colours(path).view("<u4")
    return _by_frequency(packed[packed > RGB] & RGB)


def _packed(colour: Colour) -> int:
    """The colour as an integer; red is the lowest byte, as in the memory of an RGBA picture."""
    return colour[0] | colour[1] << 8 | colour[2] << 16


def _by_frequency(packed: np.ndarray) -> dict[Colour, int]:
    """Colour -> pixels, the most frequent first."""
    colours, counts = np.unique(packed, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    pairs = zip(colours[order].tolist(), counts[order].tolist(), strict=True)
    return {(colour & 255, colour >> 8 & 255, colour >> 16): count for colour, count in pairs}


def _are_mixtures(colours: np.ndarray, unknown: np.ndarray, found: Mapping[Colour, int]) -> bool:
    """Whether most unknown pixels lie at the border of a known region and have a colour between two known ones."""
    mask, size = unknown.astype(np.uint8), 2 * BORDER + 1
    square = np.ones((size, size), np.uint8)
    inside = cv2.erode(mask, square, borderType=cv2.BORDER_REPLICATE)
    if np.count_nonzero(inside) > (1 - MOSTLY) * np.count_nonzero(mask):
        return False
    around = (cv2.dilate(mask, square) > 0) & ~unknown
    near = np.array(list(_by_frequency(colours[around]))[:NEARBY], np.float64)
    examined = dict(list(found.items())[:EXAMINED])
    points, counts = np.array(list(examined), np.float64), np.array(list(examined.values()))
    is_mixture = np.zeros(len(points), bool)
    for one, other in combinations(near, 2):
        along = other - one
        share = (points - one) @ along / (along @ along)
        off = np.linalg.norm(points - one - share[:, None] * along, axis=1)
        is_mixture |= (share > 0) & (share < 1) & (off <= OFF)
    return counts[is_mixture].sum() >= MOSTLY * counts.sum()
