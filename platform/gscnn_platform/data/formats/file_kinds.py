"""Tells the type of a file by its first bytes, for messages and for the choice of a decoder."""

from typing import Final

from gscnn_platform.data.formats.tiff import is_tiff

PNG: Final = b"\x89PNG\r\n\x1a\n"
"""First bytes of a PNG file."""

KINDS: Final = (
    (PNG, "a PNG"),
    (b"\xff\xd8", "a JPEG"),
    (b"GIF8", "a GIF"),
    (b"\0\0\0\x0cjP", "a JPEG 2000"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"PK\x03\x04", "a ZIP archive (as .npz files are)"),
    (b"MATLAB", "a MATLAB file"),
    (b"8BPS", "a Photoshop file"),
    (b"\x76\x2f\x31\x01", "an OpenEXR file"),
    (b"#?RADIANCE", "a Radiance HDR file"),
    (b"%PDF", "a PDF"),
    (b"<", "XML or HTML"),
    (b"version https://git-lfs", "a Git LFS pointer, without the file itself (git lfs pull fetches it)"),
    (b"/annex/objects/", "a git-annex pointer, without the file itself (git annex get fetches it)"),
)
"""First bytes of a file -> its type."""
OTHER_KIND: Final = "of another type"


def kind_of(data: bytes) -> str:
    """The type of a file by its first bytes, such as `a PNG` or `a HEIC`."""
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        return "an AVIF" if brand in (b"avif", b"avis") else "a HEIC" if brand[:2] in (b"he", b"mi") else "a video"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "a lossless WebP" if b"VP8L" in data[12:64] else "a WebP"
    if is_tiff(data):
        return "a TIFF"
    if data[:2] == b"BM":
        return "a BMP"
    return next((kind for magic, kind in KINDS if data.startswith(magic)), OTHER_KIND)
