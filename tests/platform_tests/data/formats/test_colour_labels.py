"""Colour-coded labels: what they are read as, and what is said of colours that are not in the table."""

import io
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats import BadSampleError, DatasetError, remap
from gscnn_platform.data.formats.base import FileSample
from gscnn_platform.data.formats.colour_labels import Colour, ColourTable
from gscnn_platform.data.formats.decoding import upright
from gscnn_platform.data.formats.folder import Folder
from tests.layouts import random_label, write_folder, write_image
from tests.stores import build_store

ROAD, LINE, CAR, BLACK = (128, 64, 128), (192, 0, 64), (64, 0, 128), (0, 0, 0)
TABLE = ColourTable({ROAD: 0, LINE: 0, CAR: 1, BLACK: IGNORE_INDEX}, ("road", "car"), "classes.yaml")
COLOURS = (ROAD, LINE, CAR, BLACK)


def coloured(label: np.ndarray, colours: tuple[Colour, ...] = COLOURS) -> np.ndarray:
    """uint8 [H, W, 3]: the colour of each number in `label` [H, W]."""
    return np.array(colours, np.uint8)[label]


def save_palette(path: Path, label: np.ndarray) -> None:
    picture = Image.fromarray(label + 7)  # Indices that mean nothing.
    picture.putpalette([0] * 21 + [channel for colour in COLOURS for channel in colour])
    picture.save(path)


SAVED: dict[str, Callable[[Path, np.ndarray], None]] = {
    "a.png": lambda path, label: Image.fromarray(coloured(label)).save(path),
    "alpha.png": lambda path, label: Image.fromarray(coloured(label)).convert("RGBA").save(path),
    "a.bmp": lambda path, label: Image.fromarray(coloured(label)).save(path),
    "a.tif": lambda path, label: Image.fromarray(coloured(label)).save(path),
    "a.webp": lambda path, label: Image.fromarray(coloured(label)).save(path, lossless=True, exact=True),
    "palette.png": save_palette,
    "palette.bmp": save_palette,
}


@pytest.mark.parametrize("name", SAVED)
def test_each_colour_becomes_its_train_id_in_every_lossless_type(tmp_path: Path, name: str) -> None:
    label = random_label(np.random.default_rng(0), [0, 1, 2, 3])
    SAVED[name](tmp_path / name, label)
    expected = np.zeros_like(label)
    for (row, column), number in np.ndenumerate(label):
        expected[row, column] = TABLE.train_ids[COLOURS[number]]
    read = TABLE.read(tmp_path / name)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, expected)


def test_all_colours_of_a_large_table_are_distinguished(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    # Neighbours that differ in one bit of one channel, and the two ends of the range.
    colours = {(0, 0, 0), (255, 255, 255), (255, 255, 254), (1, 0, 0), (0, 1, 0), (0, 0, 1)}
    while len(colours) < 255:
        colours.add((int(rng.integers(256)), int(rng.integers(256)), int(rng.integers(256))))
    order = tuple(sorted(colours, key=lambda colour: rng.random()))
    label = rng.integers(0, 255, (30, 40), dtype=np.uint8)
    path = write_image(tmp_path / "a.png", coloured(label, order))
    table = ColourTable(dict(zip(order, range(255), strict=True)), tuple(map(str, range(255))), "table")
    np.testing.assert_array_equal(table.read(path), label)


def test_a_grey_file_has_the_colours_of_its_grey(tmp_path: Path) -> None:
    label = random_label(np.random.default_rng(0), [0, 255])
    table = ColourTable({(0, 0, 0): 0, (255, 255, 255): 1}, ("a", "b"), "table")
    write_image(tmp_path / "grey.png", label)
    Image.fromarray(label).convert("1").save(tmp_path / "bit.png")
    for name in ("grey.png", "bit.png"):
        np.testing.assert_array_equal(table.read(tmp_path / name), label > 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_colour_label_with_its_own_orientation_is_rotated(tmp_path: Path, orientation: int) -> None:
    label = random_label(np.random.default_rng(0), [0, 1, 2, 3])
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(coloured(label)).save(tmp_path / "a.png", exif=exif)
    expected = upright(np.array(list(TABLE.train_ids.values()), np.uint8)[label], orientation)
    np.testing.assert_array_equal(TABLE.read(tmp_path / "a.png"), expected)


def test_fully_transparent_pixels_are_void_whatever_their_colour(tmp_path: Path) -> None:
    pixels = np.dstack([coloured(np.array([[0, 2], [0, 2]])), np.full((2, 2), 255, np.uint8)])
    pixels[0, 0] = (1, 2, 3, 0)
    pixels[1, 1, 3] = 0
    path = write_image(tmp_path / "a.png", pixels)
    np.testing.assert_array_equal(TABLE.read(path), [[IGNORE_INDEX, 1], [0, IGNORE_INDEX]])


def test_partly_transparent_pixels_are_rejected(tmp_path: Path) -> None:
    pixels = np.dstack([coloured(np.zeros((4, 4), np.uint8)), np.full((4, 4), 255, np.uint8)])
    pixels[0, :3, 3] = (1, 128, 254)
    path = write_image(tmp_path / "a.png", pixels)
    with pytest.raises(BadSampleError, match=r"a\.png: 3 pixels of the label are partly transparent, .*anti-aliasing$"):
        TABLE.read(path)


def test_an_unknown_colour_is_named_with_its_pixels_and_the_nearest_known_one(tmp_path: Path) -> None:
    pixels = coloured(np.zeros((20, 20), np.uint8))
    pixels[5:15, 5:17] = (60, 10, 120)
    path = write_image(tmp_path / "a.png", pixels)
    with pytest.raises(BadSampleError) as caught:
        TABLE.read(path)
    assert str(caught.value) == (
        f"{path}: 1 colour is not in the table of classes.yaml: #3C0A78 (60, 10, 120) 120 px, nearest #400080 (car)\n"
        "add each to the table as a class or void, or correct the label"
    )


def test_unknown_colours_are_listed_by_frequency_and_the_rest_counted(tmp_path: Path) -> None:
    pixels = coloured(np.zeros((20, 20), np.uint8))
    for number in range(8):
        pixels[0, : number + 1] = (250, 250, number)
        pixels[2 * number : 2 * number + 1, 5:] = (250, 250, number)
    path = write_image(tmp_path / "a.png", pixels)
    with pytest.raises(BadSampleError, match=r"8 colours are not in .*\(125 px\): #FAFA07 .* 23 px, .*; and 3 more\n"):
        TABLE.read(path)


def smooth(path: Path, how: str) -> Path:
    """A label whose regions were drawn or resized smoothly."""
    pixels = np.full((120, 160, 3), ROAD, np.uint8)
    if how == "drawn":
        cv2.circle(pixels, (80, 60), 35, CAR, -1, cv2.LINE_AA)
        cv2.line(pixels, (10, 10), (150, 30), LINE, 2, cv2.LINE_AA)
    else:
        cv2.circle(pixels, (80, 60), 35, CAR, -1)
        pixels = cv2.resize(pixels, None, fx=1.7, fy=1.7, interpolation=cv2.INTER_LINEAR)
    write_image(path, pixels)
    return path


@pytest.mark.parametrize("how", ["drawn", "resized"])
def test_smooth_borders_are_called_mixtures_with_what_to_do(tmp_path: Path, how: str) -> None:
    with pytest.raises(
        BadSampleError, match=r"\nthese are mixtures of two colours along the borders .*nearest neighbou"
    ):
        TABLE.read(smooth(tmp_path / "a.png", how))


@pytest.mark.parametrize("shape", ["a region of a mixture", "a thin line of another colour"])
def test_what_only_looks_like_a_smooth_border_is_not_called_one(tmp_path: Path, shape: str) -> None:
    pixels = np.full((80, 80, 3), ROAD, np.uint8)
    pixels[40:] = CAR
    if shape == "a region of a mixture":
        pixels[20:60, 20:60] = (96, 32, 128)  # Exactly between the two.
    else:
        pixels[39:41] = (0, 200, 0)
    path = write_image(tmp_path / "a.png", pixels)
    with pytest.raises(BadSampleError, match=r"1 colour is not in .*\nadd each to the table"):
        TABLE.read(path)


def test_a_label_that_was_once_a_jpeg_is_recognized_by_its_many_colours(tmp_path: Path) -> None:
    data = io.BytesIO()
    Image.fromarray(coloured(random_label(np.random.default_rng(0), [0, 1, 2, 3], (120, 160)))).save(data, "JPEG")
    path = write_image(tmp_path / "a.png", np.asarray(Image.open(data)))
    with pytest.raises(BadSampleError, match=r"colours are not in .*\nso many colours mean that .* once saved as JPEG"):
        TABLE.read(path)


def test_a_jpeg_and_16_bit_colours_are_rejected(tmp_path: Path) -> None:
    Image.fromarray(coloured(np.zeros((4, 4), np.uint8))).save(tmp_path / "a.jpg")
    with pytest.raises(
        BadSampleError, match=r"a\.jpg: the label is a JPEG, which changes values: .* or colours; export"
    ):
        TABLE.read(tmp_path / "a.jpg")
    (tmp_path / "b.png").write_bytes(cv2.imencode(".png", np.zeros((4, 4, 3), np.uint16))[1].tobytes())
    with pytest.raises(BadSampleError, match=r"b\.png: the label has 16 bits per channel; colours of labels have 8"):
        TABLE.read(tmp_path / "b.png")
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "c.tif")
    with pytest.raises(BadSampleError, match=r"c\.tif: the label is a TIFF of 1 band of 32-bit floats; a label in col"):
        TABLE.read(tmp_path / "c.tif")


def test_a_damaged_colour_label_is_named(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"nothing"))
    with pytest.raises(BadSampleError, match=r"a\.png: the label cannot be decoded"):
        TABLE.read(tmp_path / "a.png")


# A dataset of them.

CLASSES = """
classes:
  - {name: road, colour: [128, 64, 128]}
  - {name: car, colour: [64, 0, 128]}
"""


def write_coloured(root: Path, text: str, colours: tuple[Colour, ...] = (ROAD, CAR)) -> Path:
    """The layout of `write_folder` with colour-coded labels, without void."""
    write_folder(root)
    (root / "classes.yaml").write_text(text)
    for path in sorted((root / "labels").rglob("*.png")):
        label = random_label(np.random.default_rng(len(path.name)), list(range(len(colours))))
        write_image(path, coloured(label, colours))
    return root


def train_ids_of(root: Path) -> list[int]:
    """The train ids in the first sample, as they reach the store."""
    raw = Folder().samples(root, "train")[0].read()[1]
    return np.unique(remap(raw, Folder().describe(root).label_table)).tolist()


def test_without_labels_the_classes_own_colours_are_read(tmp_path: Path) -> None:
    root = write_coloured(tmp_path, CLASSES)
    described = Folder().describe(root)
    assert described.label_colours == {ROAD: 0, CAR: 1}
    assert described.label_table == {0: 0, 1: 1, 255: IGNORE_INDEX}
    assert train_ids_of(root) == [0, 1]


def test_several_colours_may_be_one_class_or_void_and_unnamed_classes_keep_their_own(tmp_path: Path) -> None:
    text = CLASSES + 'labels: {"#804080": road, "#c00040": road, "#000000": void}'
    root = write_coloured(tmp_path, text, COLOURS)
    assert Folder().describe(root).label_colours == dict(TABLE.train_ids)
    assert train_ids_of(root) == [0, 1, IGNORE_INDEX]


def test_a_named_class_has_only_the_colours_that_labels_lists(tmp_path: Path) -> None:
    root = write_coloured(tmp_path, CLASSES + 'labels: {"#c00040": road}')
    assert Folder().describe(root).label_colours == {LINE: 0, CAR: 1}


def test_palette_labels_are_indices_unless_labels_lists_colours(tmp_path: Path) -> None:
    root = write_coloured(tmp_path, CLASSES)
    for path in (root / "labels").rglob("*.png"):
        picture = Image.fromarray(random_label(np.random.default_rng(0), [0, 1]))
        picture.putpalette([*CAR, *ROAD])
        picture.save(path)
    by_index = Folder().samples(root, "train")[0].read()[1]
    (root / "classes.yaml").write_text(CLASSES + 'labels: {"#804080": road, "#400080": car}')
    np.testing.assert_array_equal(Folder().samples(root, "train")[0].read()[1], 1 - by_index)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("classes: [road, {name: car, colour: [64, 0, 128]}]", "classes: 'road' has no colour"),
        ("classes: [road, {name: car, colour: [64, 0, 128]}]\nlabels: {7: road, 8: car}", "labels: lists numbers"),
    ],
)
def test_a_missing_table_is_an_error_whose_lines_can_be_pasted(tmp_path: Path, text: str, why: str) -> None:
    root = write_coloured(tmp_path, text)
    with pytest.raises(
        DatasetError, match=rf"classes\.yaml: {why}, but .*train_0\.png is colour-coded; write"
    ) as caught:
        Folder().describe(root)
    lines = str(caught.value).partition("\n")[2]
    counts = {match[0]: int(match[1]) for match in re.findall(r"\((\d+, \d+, \d+)\), (\d+) px", lines)}
    assert sum(counts.values()) == 2 * 40 * 60 and set(counts) == {"128, 64, 128", "64, 0, 128"}
    assert yaml.safe_load(lines) == {"labels": {"#804080": "NAME", "#400080": "car"}}
    (root / "classes.yaml").write_text(text.partition("\nlabels")[0] + "\n" + lines.replace("NAME", "road"))
    assert train_ids_of(root) == [0, 1]


def test_one_colour_label_among_numbers_is_a_bad_sample_and_does_not_change_the_others(tmp_path: Path) -> None:
    root = write_folder(tmp_path, frames=3)
    write_image(root / "labels/train/train_0.png", coloured(np.zeros((40, 60), np.uint8)))
    first, second, _ = Folder().samples(root, "train")
    with pytest.raises(BadSampleError, match=r"train_0\.png: the label has colours \(mode RGB\)"):
        first.read()
    assert second.read()[1].max() == 255


def test_a_store_of_colours_depends_on_them_and_predicts_train_ids(tmp_path: Path) -> None:
    root = write_coloured(tmp_path / "raw", CLASSES)
    identity = build_store(tmp_path / "store", Folder(), root).manifest.identity
    assert identity.label_colours == {"#804080": 0, "#400080": 1}
    assert identity.raw_ids.tolist() == [0, 1]
    swapped = identity.model_copy(update={"label_colours": {"#804080": 1, "#400080": 0}})
    assert swapped.fingerprint != identity.fingerprint


def test_the_digest_of_a_sample_depends_on_the_meaning_of_its_colours(tmp_path: Path) -> None:
    sample = Folder().samples(write_coloured(tmp_path, CLASSES), "train")[0]
    assert isinstance(sample, FileSample) and sample.colours is not None
    renamed = replace(sample.colours, classes=("street", "vehicle"), source="elsewhere")
    swapped = replace(sample.colours, train_ids={ROAD: 1, CAR: 0})
    digests = [replace(sample, colours=colours).digest() for colours in (renamed, swapped, None)]
    assert digests[0] == sample.digest()
    assert len({sample.digest(), *digests}) == 3


def test_a_sample_names_the_label_whose_colour_is_unknown(tmp_path: Path) -> None:
    root = write_coloured(tmp_path, CLASSES, (ROAD, CAR, (7, 7, 7)))
    sample = Folder().samples(root, "train")[0]
    assert isinstance(sample, FileSample)
    with pytest.raises(BadSampleError, match=rf"^{sample.label}: 1 colour is not in the table of {root}/classes\.yaml"):
        sample.read()
