import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats import BadSampleError
from gscnn_platform.data.formats.labelme import LabelMeSample
from gscnn_platform.data.formats.shape_sample import ShapeClasses
from tests.layouts import SIZE, labelme_file, labelme_shape, random_image, write_image

TURNED = (SIZE[1], SIZE[0])
SQUARE = [[10, 5], [30, 5], [30, 25], [10, 25]]
CLASSES = ShapeClasses(Path("classes.yaml"), {"road": 0, "car": 1, "car body": 1, "void": IGNORE_INDEX}, 0)


def sample(folder: Path, content: Any, classes: ShapeClasses = CLASSES) -> LabelMeSample:
    """A noise image, and a LabelMe file that holds `content`: shapes, or the text or whole content of the file."""
    image = write_image(folder / "a.png", random_image(np.random.default_rng(0)))
    whole = labelme_file("a.png", content) if isinstance(content, list) else content
    (folder / "a.json").write_text(whole if isinstance(whole, str) else json.dumps(whole))
    return LabelMeSample("a", image, classes.background, folder / "a.json", classes)


def label(folder: Path, shapes: list[dict[str, Any]]) -> np.ndarray:
    image, drawn = sample(folder, shapes).read()
    assert image.shape[:2] == drawn.shape == SIZE
    return drawn


def box(top: int, left: int, bottom: int, right: int, value: int = 1, background: int = 0) -> np.ndarray:
    expected = np.full(SIZE, background, np.uint8)
    expected[top:bottom, left:right] = value
    return expected


@pytest.mark.parametrize(
    "shape",
    [
        labelme_shape("car", SQUARE),
        labelme_shape("car", [[30, 25], [10, 5]], "rectangle"),
        labelme_shape("car", SQUARE, "rectangle"),
        {"label": " car body", "points": SQUARE},
    ],
    ids=["polygon", "rectangle of 2 points", "rectangle of 4 points", "file without shape_type, other name"],
)
def test_polygons_and_rectangles_are_drawn(tmp_path: Path, shape: dict[str, Any]) -> None:
    np.testing.assert_array_equal(label(tmp_path, [shape]), box(5, 10, 25, 30))


def test_a_circle_is_drawn_as_pillow_draws_it_but_for_its_outline(tmp_path: Path) -> None:
    theirs = Image.new("L", TURNED)
    ImageDraw.Draw(theirs).ellipse((20 - 11, 18 - 11, 20 + 11, 18 + 11), fill=1)
    ours = label(tmp_path, [labelme_shape("car", [[20.5, 18.5], [20.5, 29.5]], "circle")])
    rows, columns = np.nonzero(ours != np.asarray(theirs))
    assert (np.abs(np.hypot(columns - 20, rows - 18) - 11) < 1).all()


def test_a_mask_is_drawn_from_its_first_pixel(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((6, 9)) > 0.5
    for mode in (Image.fromarray(pixels), Image.fromarray(pixels.astype(np.uint8))):  # 1 bit per pixel, and 0 and 1.
        file = io.BytesIO()
        mode.save(file, "PNG")
        mask = base64.b64encode(file.getvalue()).decode()
        expected = np.zeros(SIZE, np.uint8)
        expected[4:10, 12:21] = pixels
        drawn = label(tmp_path, [labelme_shape("car", [[12, 4], [20, 9]], "mask", mask=mask)])
        np.testing.assert_array_equal(drawn, expected)
    with pytest.raises(BadSampleError, match=r"shape 1 \(car\): its mask is 9x6 but its points enclose 8x6 pixels"):
        label(tmp_path, [labelme_shape("car", [[12, 4], [19, 9]], "mask", mask=mask)])


def test_shapes_are_drawn_in_the_order_of_the_file_and_others_are_background(tmp_path: Path) -> None:
    small = [[12, 7], [20, 7], [20, 15], [12, 15]]
    hidden = label(tmp_path, [labelme_shape("void", small), labelme_shape("car", SQUARE)])
    np.testing.assert_array_equal(hidden, box(5, 10, 25, 30))
    shown = label(tmp_path, [labelme_shape("car", SQUARE), labelme_shape("void", small)])
    assert (shown[7:15, 12:20] == IGNORE_INDEX).all()
    assert (shown == 1).sum() == 20 * 20 - 8 * 8


def test_the_copy_of_the_image_in_the_file_is_not_read(tmp_path: Path) -> None:
    plain = sample(tmp_path / "plain", [labelme_shape("car", SQUARE)])
    content = labelme_file("b.jpg", [labelme_shape("car", SQUARE)]) | {"imageData": "not a picture"}
    other = sample(tmp_path / "other", content)
    np.testing.assert_array_equal(plain.read()[1], other.read()[1])
    assert plain.digest() == other.digest()


def test_a_digest_changes_with_all_that_the_label_depends_on(tmp_path: Path) -> None:
    shapes = [labelme_shape("car", SQUARE), labelme_shape("void", [[1, 1], [5, 1], [5, 5]])]
    one = sample(tmp_path, shapes)
    digests = {one.digest(), LabelMeSample("a", one.image, 1, one.label, CLASSES).digest()}
    other_meaning = ShapeClasses(CLASSES.file, {**CLASSES.train_ids, "car": 0}, 0)
    digests.add(LabelMeSample("a", one.image, 0, one.label, other_meaning).digest())
    for changed in (
        shapes[::-1],
        shapes[:1],
        [labelme_shape("car", [[10.1, 5], *SQUARE[1:]]), shapes[1]],
        [labelme_shape("car", SQUARE[::2], "circle"), shapes[1]],
    ):
        digests.add(sample(tmp_path, changed).digest())
    write_image(tmp_path / "a.png", np.zeros((*SIZE, 3), np.uint8))
    digests.add(LabelMeSample("a", one.image, 0, one.label, CLASSES).digest())
    assert len(digests) == 8


def test_a_digest_does_not_depend_on_how_the_same_shapes_are_written(tmp_path: Path) -> None:
    polygon = sample(tmp_path / "polygon", [labelme_shape("car", SQUARE)])
    rectangle = sample(tmp_path / "rectangle", [labelme_shape("car body", SQUARE[::2], "rectangle")])
    assert polygon.digest() == rectangle.digest()


NAN = '{"shapes": [{"label": "car", "points": [[1, 2], [NaN, 3], [4, 5]]}]}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '{"shapes": [\n{"label": "car", "poi',
            r"a\.json: line 2: not valid JSON: it ends too early, the file is trun",
        ),
        ('{"shapes": [\n1 2]}', r"a\.json: line 2: not valid JSON: Expecting ',' delimiter at column 3"),
        ("", r"a\.json: the file is empty"),
        ("{}", r"a\.json: no LabelMe file: it has no list `shapes`"),
        ("[1]", r"a\.json: no LabelMe file"),
        ('{"shapes": ["car"]}', r"a\.json: no LabelMe file"),
        (NAN, r"a\.json: shape 1 \(car\): its point \(nan, 3\) lies nowhere"),
        ([labelme_shape("car", SQUARE[:2])], r"a\.json: shape 1 \(car\): a polygon of 2 points; 3 or more"),
        ([labelme_shape("car", SQUARE[:3], "circle")], r"shape 1 \(car\): a circle of 3 points; it has 2"),
        (
            [labelme_shape("car", SQUARE), labelme_shape("road", SQUARE[:2], "line")],
            r"shape 2 \(road\): a 'line' has no area; use one of polygon, rectangle, circle, mask",
        ),
        ([labelme_shape("car", [[1, 1], [2, 2]], "mask", mask="AAAA")], r"its mask is 'AAAA'; a PNG in base64"),
        ([labelme_shape("car", [[1, 1], [2, 2]], "mask")], r"its mask is None; a PNG in base64"),
        (
            [labelme_shape(name, SQUARE) for name in ("kar", "car", "kar", "boat")],
            r"a\.json: labels without a class: 'kar' \(2 shapes\), 'boat' \(1 shape\); did you mean car\?\n"
            r"classes\.yaml has road, car, .*; map other names there: labels: \{kar: CLASS\}",
        ),
        ([{"points": SQUARE}], r"labels without a class: 'None' \(1 shape\)"),
        (
            labelme_file("a.png", [], (60, 40)),
            r"a\.png is 60x40 but its shapes in .*a\.json are drawn on 40x60 \(width",
        ),
    ],
)
def test_a_wrong_file_is_named_with_its_shape_and_the_reason(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(BadSampleError, match=message) as caught:
        sample(tmp_path, content).read()
    assert len(str(caught.value).splitlines()) <= 3


def test_shapes_are_drawn_on_the_upright_image(tmp_path: Path) -> None:
    one = sample(tmp_path, [labelme_shape("car", SQUARE)])
    exif = Image.Exif()
    exif[0x112] = 6
    Image.fromarray(random_image(np.random.default_rng(0), TURNED)).save(tmp_path / "a.png", exif=exif)
    image, drawn = one.read()
    assert image.shape[:2] == SIZE
    np.testing.assert_array_equal(drawn, box(5, 10, 25, 30))
    assert one.digest().endswith(" upright")
    stored = sample(tmp_path / "stored", labelme_file("a.png", [], TURNED))
    (tmp_path / "stored/a.png").write_bytes((tmp_path / "a.png").read_bytes())
    with pytest.raises(
        BadSampleError, match=r"60x40 but its shapes .* on 40x60 .*rotated upright by its EXIF orien.*exi"
    ):
        stored.read()
