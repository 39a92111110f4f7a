"""Decodes image and label files to upright arrays, or raises an error that says what the file is.

Both are rotated upright by their own EXIF orientation, as annotation tools show them. OpenCV and Pillow rotate TIFF
files by their Orientation tag themselves.
"""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from gscnn_platform.data.formats.file_kinds import OTHER_KIND, PNG, kind_of
from gscnn_platform.data.formats.image_size import image_size
from gscnn_platform.data.formats.tiff import TiffLayout, is_tiff, tiff_layout
from gscnn_platform.data.image_files import RAW_ENDINGS, has_ending
from gscnn_platform.paths import AnyPath
from gscnn_platform.remote_errors import patiently

# OpenCV prints messages of its own for each damaged file, without its name; our error names the file.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

MOST_PIXELS: Final = 1 << 27
"""Maximum pixels of an image or label: 134 million, an aerial tile of 11,585 x 11,585. Precompute needs up to 13 bytes
per pixel, so 1.8 GB; the header of a file of a few KB can claim a hundred times as many pixels."""

RAW_VALUES: Final = 1 << 16
"""Number of raw label values and length of every lookup array: raw labels have at most 16 bits."""

LABEL_MODES: Final = ("L", "P", "I", "I;16", "I;16B", "I;16L")
WRONG_MODES: Final = {
    "1": "1 bit per pixel",
    "F": "32-bit floats",
    "LA": "grey with an alpha channel",
    "PA": "a palette with an alpha channel",
    "RGB": "colours",
    "RGBA": "colours and an alpha channel",
}
"""Pillow's mode of a label -> its description."""
COLOUR_MODES: Final = ("RGB", "RGBA")
READ_AS_COLOURS: Final = (*COLOUR_MODES, "1", "L", "LA", "P", "PA")
"""Pillow's modes of labels that a table of colours applies to."""

READ: Final = "PNG, JPEG, BMP, TIFF or WebP"
READ_KINDS: Final = ("a PNG", "a JPEG", "a BMP", "a TIFF", "a WebP", "a lossless WebP")

ORIENTATION: Final = 0x112
"""The EXIF tag of the orientation: 1 is as stored; 2 to 8 are rotated, mirrored or both."""


PNG_EXIF: Final = (b"Raw profile type exif", b"XML:com.adobe.xmp")
"""Keywords of PNG text chunks that may hold an orientation, besides the chunk eXIf."""


class BadSampleError(ValueError):
    """A sample cannot be used; the message names the file and the reason."""


def read_image(path: AnyPath) -> np.ndarray:
    """The image file, upright, as uint8 [H, W, 3] RGB; grey becomes three equal channels, alpha is dropped.

    Raises:
        BadSampleError: the file is missing, empty, damaged, of an unsupported type, has more than MOST_PIXELS, or is
            not 8-bit grey or RGB.
    """
    data = file_bytes(path)
    if has_ending(path.name, RAW_ENDINGS):
        raise BadSampleError(f"{path}: a raw camera file; only its preview could be read: export it as PNG or JPEG")
    layout = tiff_layout(data) if is_tiff(data) else None
    _check_size(path, data, "image")
    _check_bands(path, layout)
    _check_pages(path, data, "image", layout)
    if layout is not None and layout.straight_alpha and layout.colours == 3:
        return _without_alpha(path, data)
    try:
        image = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
        )
    except cv2.error as error:
        raise BadSampleError(f"{path}: the image cannot be decoded ({error.err})") from error
    if image is None:
        raise BadSampleError(
            f"{path}: the image cannot be decoded: {kind_of(data)} file that is truncated or damaged, or of a variant "
            "that OpenCV does not support; save it again as PNG"
        )
    if image.dtype != np.uint8:
        raise BadSampleError(
            f"{path}: the image has {8 * image.dtype.itemsize} bits per channel; images have 8: convert it"
        )
    return upright(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), orientation(data))


def _without_alpha(path: AnyPath, data: bytes) -> np.ndarray:
    """A TIFF's RGB as stored, uint8 [H, W, 3]; OpenCV would multiply it by alpha."""
    try:
        with Image.open(io.BytesIO(data)) as file:
            return np.ascontiguousarray(np.asarray(file)[..., :3])
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise BadSampleError(f"{path}: the image cannot be decoded, it is truncated or damaged ({error})") from error


def read_label(path: AnyPath) -> np.ndarray:
    """The label file, upright, as uint8 or uint16 [H, W]; a palette file gives its indices, not its colours.

    Raises:
        BadSampleError: the file is missing, empty, damaged, of a lossy type, has more than MOST_PIXELS or several
            channels, or holds values outside 0..65535.
    """
    data, kind, layout = _label_file(path)
    # Pillow stretches grey PNGs of 2 and 4 bits to 0..255, which would silently change every label value.
    if kind == "a PNG" and len(data) > 25 and data[25] == 0 and data[24] < 8:
        raise BadSampleError(f"{path}: a grey label of {data[24]}-bit numbers; store labels as 8 or 16-bit grey")
    _check_label_bands(path, layout)
    with _label_picture(path, data, kind) as file:
        mode = file.mode
        label = np.asarray(file)
    if mode not in LABEL_MODES:
        raise BadSampleError(
            f"{path}: the label has {WRONG_MODES.get(mode, mode)} (mode {mode}); labels must be single-channel, one "
            "class number per pixel (8 or 16-bit grey, or a palette): convert it to class numbers first"
        )
    label = upright(label, orientation(data))
    if label.dtype == np.uint8:
        return label
    if label.size and not 0 <= int(label.min()) <= int(label.max()) < RAW_VALUES:
        raise BadSampleError(f"{path}: label values from {label.min()} to {label.max()}; they must be 0..65535")
    return label.astype(np.uint16)


def read_label_colours(path: AnyPath) -> np.ndarray:
    """The label file, upright, in its colours, as uint8 [H, W, 4] RGBA; a file without transparency has alpha 255.

    Grey is three equal values, and a palette file has the colours of its palette. Raises BadSampleError like
    `read_label`, but if the file is not of 8-bit colours.
    """
    data, kind, layout = _label_file(path)
    if kind == "a PNG" and len(data) > 25 and data[24] == 16:
        raise BadSampleError(f"{path}: the label has 16 bits per channel; colours of labels have 8: convert it")
    if layout is not None and not (
        layout.colours in (1, 3) and layout.bits <= 8 and layout.kind == 1 and not layout.other_colours
    ):
        raise BadSampleError(
            f"{path}: the label is a TIFF of {layout}; a label in colours has 1 band (grey or palette) or 3 (RGB) of "
            "8-bit unsigned integers, and may have alpha: export it again as PNG"
        )
    with _label_picture(path, data, kind) as file:
        if file.mode not in READ_AS_COLOURS:
            raise BadSampleError(f"{path}: the label has mode {file.mode}; colours of labels are RGB: convert it")
        return upright(np.asarray(file.convert("RGBA")), orientation(data))


def has_colours(path: AnyPath) -> bool:
    """Whether the label file is RGB, with or without alpha; reads its header. Raises BadSampleError."""
    data, kind, _ = _label_file(path)
    with _label_picture(path, data, kind) as file:
        return file.mode in COLOUR_MODES


def _label_file(path: AnyPath) -> tuple[bytes, str, TiffLayout | None]:
    """Content and type of a label file. Raises BadSampleError if it is lossy, too large or has several pictures."""
    data = file_bytes(path)
    layout = tiff_layout(data) if is_tiff(data) else None
    kind = "a TIFF compressed as JPEG" if layout is not None and layout.is_jpeg else kind_of(data)
    if kind in ("a JPEG", "a WebP", "a TIFF compressed as JPEG"):
        raise BadSampleError(
            f"{path}: the label is {kind}, which changes values: its pixels are no longer exact class numbers or "
            f"colours; export the labels again as PNG (converting {kind} to PNG keeps the wrong values)"
        )
    _check_size(path, data, "label")
    _check_pages(path, data, "label", layout)
    return data, kind, layout


@contextmanager
def _label_picture(path: AnyPath, data: bytes, kind: str) -> Iterator[Image.Image]:
    """A label file opened by Pillow; what Pillow raises, also in the block, becomes a BadSampleError."""
    try:
        with Image.open(io.BytesIO(data)) as file:
            yield file
    except BadSampleError:
        raise
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise BadSampleError(f"{path}: the label cannot be decoded: {kind} file that Pillow cannot read") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise BadSampleError(f"{path}: the label cannot be decoded, it is truncated or damaged ({error})") from error


def orientation(data: bytes) -> int:
    """EXIF orientation of an image file's bytes, 1 to 8; 1 if there is none, and for a TIFF, which is decoded upright.

    Reads only the header, except for a PNG with EXIF data.
    """
    if is_tiff(data) or (kind_of(data) == "a PNG" and not _png_has_exif(data)):
        return 1
    try:
        with Image.open(io.BytesIO(data)) as file:
            found = file.getexif().get(ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError):
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """The stored image [H, W, 3] or label [H, W], rotated and mirrored by its orientation (EXIF 2.32, 4.6.4 A)."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def file_bytes(path: AnyPath) -> bytes:
    """The content of the file. Raises BadSampleError if it is missing, unreadable or empty."""
    try:
        data = patiently(path.read_bytes)
    except FileNotFoundError as error:
        link = f", a link to {path.readlink()}" if isinstance(path, Path) and path.is_symlink() else ""
        raise BadSampleError(f"{path}{link}: the file is missing") from error
    except OSError as error:
        raise BadSampleError(f"{path}: the file cannot be read ({error.strerror or error})") from error
    if not data:
        raise BadSampleError(f"{path}: the file is empty (0 bytes)")
    return data


def _check_size(path: AnyPath, data: bytes, what: str) -> None:
    """Raises BadSampleError, before anything is decoded, if the header has no size or an invalid one."""
    size = image_size(data)
    if size is None:
        kind = kind_of(data)
        if kind in READ_KINDS or kind == OTHER_KIND:
            why = f"no header of a {READ} file; it is {kind}, truncated or damaged"
        else:
            why = f"it is {kind}; supported are {READ}"
        raise BadSampleError(f"{path}: the {what} cannot be decoded: {why}")
    width, height = size
    if not all(size) or width * height > MOST_PIXELS:
        raise BadSampleError(
            f"{path}: the {what} is {width} x {height} pixels by its header, {width * height} in all; "
            + (f"at most {MOST_PIXELS} are decoded: cut it into tiles" if all(size) else "it is damaged")
        )


def _check_bands(path: AnyPath, layout: TiffLayout | None) -> None:
    """Raises BadSampleError if a TIFF image is not 8-bit grey or RGB; the message says what it is and how to fix it."""
    if layout is None:
        return
    if layout.colours in (1, 3) and layout.bits <= 8 and layout.kind == 1 and not layout.other_colours:
        if layout.colours == 3 and layout.is_grey:
            # OpenCV would read only the first band.
            raise BadSampleError(
                f"{path}: the image is a TIFF of {layout} that the file declares as grey; if they are red, green and "
                "blue, declare them as RGB: gdal_translate -co PHOTOMETRIC=RGB IN OUT"
            )
        return
    undeclared = layout.bands == 4 and not layout.alpha and not layout.other_colours
    fourth = "; the file does not declare the fourth as alpha" if undeclared else ""
    keep = " -b 1 -b 2 -b 3" if layout.colours >= 3 else ""
    scale = " -ot Byte -scale" if layout.bits > 8 or layout.kind != 1 else ""
    how = "magick IN -colorspace sRGB OUT" if layout.other_colours else f"gdal_translate{keep}{scale} IN OUT"
    raise BadSampleError(
        f"{path}: the image is a TIFF of {layout}{fourth}; images have 1 (grey) or 3 (RGB) bands of 8-bit unsigned "
        f"integers, and may have alpha: convert it, for example: {how}"
    )


def _check_label_bands(path: AnyPath, layout: TiffLayout | None) -> None:
    """Raises BadSampleError if a TIFF label is not a single band of whole numbers, or if its values would change."""
    if layout is None:
        return
    # Pillow stretches grey TIFFs of 2 and 4 bits to 0..255, and inverts TIFFs whose 0 is white.
    if layout.bands != 1 or layout.kind > 2 or (layout.bits not in (8, 16, 32) and not layout.has_palette):
        raise BadSampleError(
            f"{path}: the label is a TIFF of {layout}; a label has 1 band of 8, 16 or 32-bit whole numbers, one class "
            "per pixel: gdal_translate -b 1 -ot Byte IN OUT keeps the first band"
        )
    if layout.white_is_zero:
        raise BadSampleError(
            f"{path}: the label is a TIFF whose 0 is white, which some programs read as 255: store it with 0 as black "
            "(gdal_translate -co PHOTOMETRIC=MINISBLACK IN OUT keeps the numbers)"
        )


def _check_pages(path: AnyPath, data: bytes, what: str, layout: TiffLayout | None) -> None:
    """Raises BadSampleError if a file has several pictures, because only one of them would be read."""
    if layout is not None and layout.pages > 1:
        raise BadSampleError(
            f"{path}: the {what} is a TIFF of {layout.pages} pages; a file must have one: save each page as a file"
        )
    png = data.startswith(PNG) and any(kind == b"acTL" for kind, _ in _png_chunks(data, until=b"IDAT"))
    webp = data[8:16] == b"WEBPVP8X" and data[20] & 2
    if png or webp:
        raise BadSampleError(f"{path}: the {what} is animated; a file must hold one picture: save each frame as a file")


def _png_has_exif(data: bytes) -> bool:
    """Whether a PNG may have an orientation. Pillow decodes the whole file to find out: 42 ms at 2048x1024."""
    texts = (b"tEXt", b"zTXt", b"iTXt")
    return any(
        kind == b"eXIf" or (kind in texts and data.startswith(PNG_EXIF, content)) for kind, content in _png_chunks(data)
    )


def _png_chunks(data: bytes, until: bytes = b"") -> Iterator[tuple[bytes, int]]:
    """Type and content offset of each chunk of a PNG, up to the first chunk of type `until`."""
    position = len(PNG)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == until:
            return
        yield kind, position + 8
        position += 12 + length
