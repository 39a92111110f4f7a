"""Reads the header of a TIFF file's first picture: size, bands and the type of their numbers (TIFF 6.0)."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAGIC: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of TIFF and, with a plus, of BigTIFF, in either byte order."""

SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, COLOURS, BANDS, EXTRA, FORMAT = 254, 256, 257, 258, 259, 262, 277, 338, 339
"""Tags. SUBFILE is 0 for an independent picture; bit 1 is set in smaller copies of another picture, bit 4 in masks."""
READ: Final = (SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, COLOURS, BANDS, EXTRA, FORMAT)

TYPES: Final = {1: "B", 3: "H", 4: "I", 16: "Q"}
"""Type number of each unsigned integer -> its struct format; 16 exists only in BigTIFF."""

PREMULTIPLIED, STRAIGHT = 1, 2
"""Values of EXTRA for alpha; 0 is unspecified."""

JPEG: Final = (6, 7)
"""Values of COMPRESSION."""

WHITE_IS_ZERO, BLACK_IS_ZERO, PALETTE = 0, 1, 3
"""Values of COLOURS."""

OTHER_COLOURS: Final = {
    5: "CMYK",
    8: "CIELab",
    9: "ICCLab",
    10: "ITULab",
    32803: "raw sensor data",
    34892: "linear raw",
}
"""Values of COLOURS other than grey and RGB."""

KINDS: Final = {1: "unsigned integers", 2: "signed integers", 3: "floats", 5: "complex integers", 6: "complex floats"}
"""Values of FORMAT; 4 is undefined."""

MOST_PAGES: Final = 64
"""Maximum number of pages that are counted."""


@dataclass(frozen=True)
class TiffLayout:
    width: int
    height: int
    bands: int
    bits: int
    """Bits per number."""
    kind: int
    """Type of the numbers: a value of FORMAT."""
    alpha: bool
    """Whether the file declares its last band as alpha."""
    pages: int
    """Number of pictures, without smaller copies and masks."""
    is_jpeg: bool
    """Whether it is compressed as JPEG, which changes values."""
    has_palette: bool
    is_grey: bool
    """Whether the file declares its band or bands as grey."""
    white_is_zero: bool
    """Whether grey is stored inverted."""
    straight_alpha: bool
    """Whether the stored colours are not multiplied by alpha."""
    other_colours: str | None
    """The colour space if it is neither grey nor RGB."""

    @property
    def colours(self) -> int:
        """Bands without alpha."""
        return self.bands - int(self.alpha)

    def __str__(self) -> str:
        """A description such as `5 bands of 8-bit unsigned integers`."""
        bands = "1 band" if self.bands == 1 else f"{self.bands} bands"
        meaning = f" ({self.other_colours})" if self.other_colours else ""
        return f"{bands} of {self.bits}-bit {KINDS.get(self.kind, 'numbers of an unknown type')}{meaning}"


def is_tiff(data: bytes) -> bool:
    return data[:4] in MAGIC


def tiff_layout(data: bytes) -> TiffLayout | None:
    """The layout of a TIFF file's first picture; None if its header ends early or lacks a size."""
    pages: list[dict[int, list[int]]] = []
    try:
        reader = _Reader(data)
        offset = reader.start
        while offset and len(pages) < MOST_PAGES:
            tags, offset = reader.page(offset)
            pages.append(tags)
    except (struct.error, OverflowError):
        if not pages:
            return None
    first = pages[0]
    if WIDTH not in first or HEIGHT not in first:
        return None
    extra, colours = first.get(EXTRA, [0])[-1], first.get(COLOURS, [1])[0]
    return TiffLayout(
        width=max(first[WIDTH]),
        height=max(first[HEIGHT]),
        bands=first.get(BANDS, [1])[0],
        bits=max(first.get(BITS, [1])),
        kind=first.get(FORMAT, [1])[0],
        alpha=extra in (PREMULTIPLIED, STRAIGHT),
        pages=sum(1 for tags in pages if not tags.get(SUBFILE, [0])[0] & 5),
        is_jpeg=first.get(COMPRESSION, [1])[0] in JPEG,
        has_palette=colours == PALETTE,
        is_grey=colours in (WHITE_IS_ZERO, BLACK_IS_ZERO),
        white_is_zero=colours == WHITE_IS_ZERO,
        straight_alpha=extra == STRAIGHT,
        other_colours=OTHER_COLOURS.get(colours),
    )


class _Reader:
    """Reads the numbers of one file."""

    def __init__(self, data: bytes) -> None:
        self.data, self.order = data, "<" if data[:2] == b"II" else ">"
        self.big = b"+" in data[2:4]
        (self.start,) = self._at("Q" if self.big else "I", 8 if self.big else 4)

    def page(self, start: int) -> tuple[dict[int, list[int]], int]:
        """The tags in READ of the page at `start`, and the offset of the next page, 0 after the last."""
        count, entry = ("Q", 20) if self.big else ("H", 12)
        (entries,) = self._at(count, start)
        first = start + struct.calcsize(count)
        tags: dict[int, list[int]] = {}
        for position in range(first, min(first + entries * entry, len(self.data)), entry):
            for tag, values in self._entry(position):
                # All claimed sizes are kept: a second width must not bypass the limit on pixels.
                tags[tag] = [*tags.get(tag, []), *values] if tag in (WIDTH, HEIGHT) else values
        try:
            (after,) = self._at("Q" if self.big else "I", first + entries * entry)
        except struct.error:
            after = 0
        return tags, after

    def _entry(self, position: int) -> Iterator[tuple[int, list[int]]]:
        tag, kind = self._at("HH", position)
        if tag not in READ or kind not in TYPES:
            return
        (count,) = self._at("Q" if self.big else "I", position + 4)
        inline, value_at = (8, position + 12) if self.big else (4, position + 8)
        size = struct.calcsize(TYPES[kind])
        if count * size > inline:
            (value_at,) = self._at("Q" if self.big else "I", value_at)
        values = [self._at(TYPES[kind], value_at + number * size)[0] for number in range(max(1, min(count, 16)))]
        yield tag, values

    def _at(self, what: str, position: int) -> tuple[int, ...]:
        return struct.unpack_from(self.order + what, self.data, position)
