"""Reads the size of an image from its header, for the formats that datasets use. Nothing is decoded."""

import struct
from typing import Final

from gscnn_platform.data.formats.tiff import is_tiff, tiff_layout

JPEG_FRAMES: Final = {0xC0 + low for low in range(16)} - {0xC4, 0xC8, 0xCC}
"""The markers SOF0 to SOF15; C4, C8 and CC are tables and an extension (ITU T.81, table B.1)."""

JPEG_LONE: Final = {0x01, *range(0xD0, 0xD9)}
"""Markers without a length: TEM, RST0 to RST7, SOI."""


def image_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels of a PNG, JPEG, BMP, TIFF or WebP file; None if it has no such header."""
    try:
        if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR":
            return struct.unpack_from(">II", data, 16)
        if data[:2] == b"\xff\xd8":
            return _jpeg(data)
        if data[:2] == b"BM":
            return _bmp(data)
        if is_tiff(data):
            layout = tiff_layout(data)
            return None if layout is None else (layout.width, layout.height)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
    except (struct.error, OverflowError):  # The header ends early, or points past the end.
        return None
    return None


def _jpeg(data: bytes) -> tuple[int, int] | None:
    position = 2
    while True:
        position = data.find(b"\xff", position)  # Like libjpeg, which skips bytes between segments.
        if position < 0:
            return None
        (marker,) = struct.unpack_from("B", data, position + 1)
        if marker in (0x00, 0xFF):
            position += 1
        elif marker in JPEG_LONE:
            position += 2
        elif marker in JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, position + 5)
            return width, height
        else:
            (length,) = struct.unpack_from(">H", data, position + 2)
            position += 2 + length


def _bmp(data: bytes) -> tuple[int, int]:
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return abs(width), abs(height)  # A negative height means that the top row comes first.


def _webp(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":
        low_width, high_width, low_height, high_height = struct.unpack_from("<HBHB", data, 24)
        return 1 + (low_width | high_width << 16), 1 + (low_height | high_height << 16)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None
