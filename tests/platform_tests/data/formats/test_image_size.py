import os
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from gscnn_platform.data.formats import BadSampleError, decoding
from gscnn_platform.data.formats.decoding import MOST_PIXELS, read_image, read_label
from gscnn_platform.data.formats.image_size import image_size
from gscnn_platform.data.image_files import IMAGE_ENDINGS, LABEL_ENDINGS

HEIGHT, WIDTH = 40, 61


def never(*_: Any, **__: Any) -> None:
    raise AssertionError("decoded")


@pytest.fixture
def no_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", never)
    monkeypatch.setattr(Image, "open", never)


def saved(path: Path, mode: str = "RGB", **options: Any) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 4), dtype=np.uint8)
    Image.fromarray(pixels, "RGBA").convert(mode).save(path, **options)
    return path


def png(path: Path, width: int, height: int, rows: bytes) -> Path:
    """A grey PNG of one bit a pixel, whose header may say what it likes, with checksums that fit."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


@pytest.mark.parametrize(
    ("ending", "mode", "options"),
    [
        *((ending, "RGB", {}) for ending in IMAGE_ENDINGS),
        (".png", "P", {"interlace": 1}),
        (
            ".jpg",
            "RGB",
            {"progressive": True, "exif": b"Exif\0\0" + bytes(range(256)) * 200, "comment": b"\xff\xc0" * 9},
        ),
        (".jpg", "CMYK", {"optimize": True}),
        (".bmp", "L", {}),
        (".tif", "RGBA", {"compression": "tiff_lzw"}),
        (".tif", "RGB", {"compression": "jpeg"}),
        (".tif", "L", {"big_tiff": True}),
        (".tif", "I;16B", {}),
        (".webp", "RGB", {"lossless": True}),
        (".webp", "RGBA", {"quality": 50}),
        (".webp", "RGB", {"exif": b"Exif\0\0MM\0*"}),
        (".webp", "RGB", {"save_all": True, "append_images": [Image.new("RGB", (WIDTH, HEIGHT), "red")]}),
    ],
)
def test_the_header_gives_the_size_that_decoding_gives(
    tmp_path: Path, ending: str, mode: str, options: dict[str, Any]
) -> None:
    if mode == "I;16B":
        path = tmp_path / f"a{ending}"
        Image.fromarray(np.zeros((HEIGHT, WIDTH), ">u2")).save(path)
    else:
        path = saved(tmp_path / f"a{ending}", mode, **options)
    data = path.read_bytes()
    assert image_size(data) == (WIDTH, HEIGHT)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None and decoded.shape[:2] == (HEIGHT, WIDTH)


def test_old_and_topmost_first_bitmaps_have_a_size(tmp_path: Path) -> None:
    data = bytearray(saved(tmp_path / "a.bmp").read_bytes())
    struct.pack_into("<i", data, 22, -HEIGHT)
    assert image_size(bytes(data)) == (WIDTH, HEIGHT)
    assert image_size(b"BM" + bytes(12) + struct.pack("<IHH", 12, WIDTH, HEIGHT)) == (WIDTH, HEIGHT)


@pytest.mark.parametrize("ending", IMAGE_ENDINGS)
def test_a_header_that_ends_early_or_is_damaged_gives_no_size_or_another(tmp_path: Path, ending: str) -> None:
    data = saved(tmp_path / f"a{ending}").read_bytes()
    for length in range(min(len(data), 400)):
        assert image_size(data[:length]) in (None, (WIDTH, HEIGHT))
    rng = np.random.default_rng(0)
    for _ in range(500):
        damaged = bytearray(data)
        damaged[int(rng.integers(0, min(len(data), 64)))] = int(rng.integers(0, 256))
        found = image_size(bytes(damaged))
        assert found is None or min(found) >= 0


def test_a_png_of_400_million_pixels_is_rejected_before_decoding(tmp_path: Path, no_decoder: None) -> None:
    side = 20_000
    bomb = png(tmp_path / "bomb.png", side, side, bytes(side * (side // 8 + 1)))
    assert bomb.stat().st_size < 50_000
    for read, what in ((read_image, "image"), (read_label, "label")):
        with pytest.raises(BadSampleError) as error:
            read(bomb)
        assert str(error.value) == (
            f"{bomb}: the {what} is 20000 x 20000 pixels by its header, 400000000 in all; at most 134217728 are "
            "decoded: cut it into tiles"
        )


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (MOST_PIXELS + 1, 1)])
def test_a_png_with_a_wrong_size_in_its_header_is_rejected_before_decoding(
    tmp_path: Path, no_decoder: None, width: int, height: int
) -> None:
    liar = png(tmp_path / "liar.png", width, height, b"\0\xff" * 8)
    for read in (read_image, read_label):
        with pytest.raises(BadSampleError, match=f"liar.png: .* is {width} x {height} pixels"):
            read(liar)


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0)])
def test_a_header_that_claims_no_pixels_is_rejected(tmp_path: Path, no_decoder: None, width: int, height: int) -> None:
    with pytest.raises(BadSampleError, match=f"is {width} x {height} pixels by its header, .* it is damaged"):
        read_image(png(tmp_path / "none.png", width, height, b""))


@pytest.mark.parametrize("ending", IMAGE_ENDINGS)
def test_the_limit_applies_to_every_ending(
    tmp_path: Path, ending: str, no_decoder: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / f"a{ending}")
    monkeypatch.setattr(decoding, "MOST_PIXELS", HEIGHT * WIDTH - 1)
    reads = [read_image, read_label] if ending in LABEL_ENDINGS else [read_image]
    for read in reads:
        with pytest.raises(BadSampleError, match=rf"a{ending}: .* is {WIDTH} x {HEIGHT} pixels"):
            read(path)


def test_an_image_of_exactly_the_limit_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MOST_PIXELS", HEIGHT * WIDTH)
    assert read_image(saved(tmp_path / "a.jpg")).shape == (HEIGHT, WIDTH, 3)
    assert read_label(saved(tmp_path / "a.png", "L")).shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize("content", [b"GIF89a", b"P6 9 9 255 ", b"\x76\x2f\x31\x01", b"<svg/>"])
def test_other_formats_are_rejected_whatever_their_ending(tmp_path: Path, no_decoder: None, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content + os.urandom(99))
    with pytest.raises(BadSampleError, match=r"a\.png: the image cannot be decoded: .*PNG, JPEG, BMP, TIFF or WebP"):
        read_image(tmp_path / "a.png")
