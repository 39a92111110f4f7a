import json
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats import BadSampleError, DatasetError
from gscnn_platform.data.formats.coco import CocoSample, read_coco
from gscnn_platform.data.formats.shape_sample import ShapeClasses
from gscnn_platform.text_files import TextError
from tests.layouts import SIZE, random_image, write_image

SQUARE = [10, 5, 30, 5, 30, 25, 10, 25]
SMALL = [12, 7, 20, 7, 20, 15, 12, 15]
IMAGE = {"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}
CLASSES = ShapeClasses(Path("classes.yaml"), {"road": 0, "car": 1, "ignore": IGNORE_INDEX}, 0)
CATEGORIES = [{"id": 4, "name": "car"}, {"id": 9, "name": "ignore"}, {"id": 2, "name": "tree"}]


def annotation(segmentation: object, category: int = 4, number: int = 7, **more: object) -> dict[str, object]:
    return {"id": number, "image_id": 1, "category_id": category, "segmentation": segmentation, **more}


def write(folder: Path, annotations: object = (), **parts: object) -> Path:
    file = folder / "instances_train.json"
    content = {"images": [IMAGE], "annotations": annotations, "categories": CATEGORIES, **parts}
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


def sample(folder: Path, annotations: list[dict[str, object]], image: dict[str, Any] = IMAGE) -> CocoSample:
    pixels = write_image(folder / "a.png", random_image(np.random.default_rng(0)))
    file = write(folder, annotations, images=[image])
    return CocoSample("a", pixels, CLASSES.background, file, read_coco(file, CLASSES)[0])


def label(folder: Path, annotations: list[dict[str, object]]) -> np.ndarray:
    image, drawn = sample(folder, annotations).read()
    assert image.shape[:2] == drawn.shape == SIZE
    return drawn


def test_the_polygons_of_an_annotation_are_their_union(tmp_path: Path) -> None:
    expected = np.zeros(SIZE, np.uint8)
    expected[5:25, 10:30] = expected[30:38, 40:48] = 1
    far = [40, 30, 48, 30, 48, 38, 40, 38]
    np.testing.assert_array_equal(label(tmp_path, [annotation([SQUARE, SMALL, far])]), expected)


def test_smaller_annotations_cover_larger_ones_whatever_their_order_and_their_area_field(tmp_path: Path) -> None:
    large, small = annotation([SQUARE], area=1), annotation([SMALL], 9, 8, area=10**6)
    expected = np.zeros(SIZE, np.uint8)
    expected[5:25, 10:30] = 1
    expected[7:15, 12:20] = IGNORE_INDEX
    for order in ([large, small], [small, large]):
        np.testing.assert_array_equal(label(tmp_path, order), expected)


def test_of_equally_large_annotations_the_later_one_covers_the_earlier(tmp_path: Path) -> None:
    assert (label(tmp_path, [annotation([SQUARE]), annotation([SQUARE], 9, 8)])[5:25, 10:30] == IGNORE_INDEX).all()


def test_crowds_are_drawn_from_their_runs(tmp_path: Path) -> None:
    expected = np.zeros(SIZE, np.uint8)
    expected[5:25, 10:12] = 1
    runs = [10 * 40 + 5, 20, 20, 20, 40 * 60 - 465]
    drawn = label(tmp_path, [annotation({"size": [40, 60], "counts": runs}, iscrowd=1)])
    np.testing.assert_array_equal(drawn, expected)


def test_an_image_without_annotations_is_background(tmp_path: Path) -> None:
    assert (label(tmp_path, []) == 0).all()


def test_categories_without_annotations_need_no_class(tmp_path: Path) -> None:
    assert [image.file_name for image in read_coco(write(tmp_path, [annotation([SQUARE])]), CLASSES)] == ["a.png"]


def test_file_names_of_windows_and_of_any_unicode_form_are_alike(tmp_path: Path) -> None:
    file = write(tmp_path, [], images=[IMAGE | {"file_name": "images\\Ko\u0308ln.png"}])
    assert read_coco(file, CLASSES)[0].file_name == "images/K\u00f6ln.png"


def test_a_sample_depends_on_the_annotations_of_its_image_alone(tmp_path: Path) -> None:
    alone = sample(tmp_path / "alone", [annotation([SQUARE])])
    pixels, more = alone.image, [annotation([SQUARE], number=70), annotation([SMALL]) | {"image_id": "b"}]
    images = [IMAGE | {"id": "b", "file_name": "b.png"}, IMAGE]
    other = read_coco(write(tmp_path, more, images=images), CLASSES)[1]
    assert CocoSample("a", pixels, 0, tmp_path, other).digest() == alone.digest()
    for changed in ([annotation([SMALL])], [annotation([SQUARE], 9)], [annotation([SQUARE, SMALL])], []):
        assert sample(tmp_path / "changed", changed).digest() != alone.digest()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '{"images": [],\n"annotations": [{',
            r"train\.json: line 2: not valid JSON: it ends too early, the file is tru",
        ),
        (
            '{"images": [],\n"annotations" []}',
            r"train\.json: line 2: not valid JSON: Expecting ':' delimiter at column",
        ),
    ],
)
def test_broken_json_is_named_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    file = write(tmp_path)
    file.write_text(content)
    with pytest.raises(TextError, match=message):
        read_coco(file, CLASSES)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"images": None}, "no COCO file: it has no list `images`; it needs images, annotations, categories"),
        ({"annotations": [1]}, "no COCO file: it has no list `annotations`"),
        ({"images": [IMAGE, IMAGE]}, r"images: .* has the id 1, which .* has too; ids are unique"),
        ({"images": [{"file_name": "a.png"}]}, "images: .* has no id"),
        ({"images": [{"id": 1}]}, "images: the image with the id 1 has no file_name"),
        ({"images": [IMAGE, IMAGE | {"id": 2}]}, r"images: file_name 'a\.png' is listed more than once; merge its"),
        (
            {"annotations": [annotation([SQUARE]) | {"image_id": 5}]},
            "annotations: the annotation with the id 7 has the image_id 5, which is not in images",
        ),
        (
            {"annotations": [annotation([SQUARE], 3)]},
            "annotations: the annotation with the id 7 has the category_id 3, which is not in categories",
        ),
        ({"annotations": [annotation([SQUARE]) | {"image_id": [1]}]}, "has the image_id None, which is not in images"),
        (
            {"annotations": [annotation([SQUARE], 2)] * 3},
            r"train\.json: categories without a class: tree \(3 annotations\)\n"
            r"classes\.yaml has road, car, ignore; map the others there: labels: \{tree: CLASS\}",
        ),
        (
            {"annotations": [annotation([SQUARE])], "categories": [{"id": 4, "name": "cars"}]},
            r"categories without a class: cars \(1 annotation\); did you mean car\?",
        ),
    ],
)
def test_a_wrong_file_is_named_with_the_part_and_the_value(
    tmp_path: Path, parts: dict[str, object], message: str
) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        read_coco(write(tmp_path, **parts), CLASSES)
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], r"train\.json: a\.png: annotation 7 \(car\): it has no segmentation, at most a box"),
        (None, r"annotation 7 \(car\): it has no segmentation"),
        ([SQUARE[:4]], r"annotation 7 \(car\): a polygon of 2 points; 3 or more"),
        (SQUARE, r"annotation 7 \(car\): its points are 10; a list of coordinates"),
        ([SQUARE[:7]], "its points are not pairs: 7 numbers"),
        ([[*SQUARE, 3, float("nan")]], r"its point \(3, nan\) lies nowhere"),
        ({"size": [60, 40], "counts": [2400]}, r"its mask is 40x60 but the image is 60x40 \(width x height\)"),
    ],
)
def test_a_wrong_segmentation_is_named_with_its_annotation(tmp_path: Path, segmentation: object, message: str) -> None:
    one = sample(tmp_path, [annotation(segmentation)])
    with pytest.raises(BadSampleError, match=message):
        one.read()


def test_an_image_of_another_size_is_rejected_with_both_sizes(tmp_path: Path) -> None:
    one = sample(tmp_path, [], IMAGE | {"width": 30})
    with pytest.raises(BadSampleError, match=r"a\.png is 60x40 but its shapes in .*train\.json are drawn on 30x40"):
        one.read()


def test_a_file_is_parsed_once_and_travels_as_bytes(tmp_path: Path) -> None:
    count, outline = 1_000, np.random.default_rng(0).uniform(0, 60, 50).round(2).tolist()
    annotations = [annotation([outline], number=index) | {"image_id": index // 10} for index in range(10 * count)]
    images = [IMAGE | {"id": index, "file_name": f"{index}.png"} for index in range(count)]
    file = write(tmp_path, annotations, images=images)
    started = time.process_time()
    read = read_coco(file, CLASSES)
    first = time.process_time() - started
    again = min(_seconds(lambda: read_coco(file, CLASSES)) for _ in range(3))
    assert len(read) == count
    assert again < first / 4
    assert _seconds(lambda: pickle.loads(pickle.dumps(read))) < first / 4


def _seconds(action: Any) -> float:
    started = time.process_time()
    action()
    return time.process_time() - started
