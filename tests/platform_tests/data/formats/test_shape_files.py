import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats import BadSampleError, DatasetError, remap
from gscnn_platform.data.formats.folder import Folder
from gscnn_platform.text_files import TextError
from tests.layouts import (
    SHAPE_CLASSES,
    labelme_file,
    labelme_shape,
    random_image,
    write_coco,
    write_folder,
    write_image,
    write_labelme,
)


def write_beside(root: Path) -> Path:
    return write_labelme(root, beside=True)


def names(root: Path, split: str) -> list[str]:
    return [sample.name for sample in Folder().samples(root, split)]


def labels(root: Path, split: str = "train") -> list[np.ndarray]:
    return [sample.read()[1] for sample in Folder().samples(root, split)]


def edit(file: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("write", [write_labelme, write_beside, write_coco])
def test_names_mean_their_class_or_what_classes_yaml_maps_them_to(
    tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    root = write(tmp_path)
    described = Folder().describe(root)
    assert (described.classes, described.splits) == (("road", "car"), ("train", "val"))
    assert described.label_table == {0: 0, 1: 1, 255: IGNORE_INDEX}
    assert described.left_out == ()
    assert names(root, "val") == ["val_0", "val_1"]
    for label in labels(root):
        assert set(np.unique(label)) == {0, 1, IGNORE_INDEX}
        np.testing.assert_array_equal(remap(label, described.label_table), label)


@pytest.mark.parametrize("write", [write_labelme, write_coco])
def test_pixels_outside_all_shapes_are_void_unless_background_names_a_class(
    tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    with_road = labels(write(tmp_path))[0]
    file = tmp_path / "classes.yaml"
    file.write_text(yaml.safe_dump({key: value for key, value in SHAPE_CLASSES.items() if key != "background"}))
    void = labels(tmp_path)[0]
    np.testing.assert_array_equal(void, np.where(with_road == 0, IGNORE_INDEX, with_road))
    (said,) = Folder().describe(tmp_path).left_out
    assert said.startswith("classes.yaml has no `background`: pixels outside all shapes are void")
    file.write_text(yaml.safe_dump({**SHAPE_CLASSES, "background": "void"}))
    assert Folder().describe(tmp_path).left_out == ()
    np.testing.assert_array_equal(labels(tmp_path)[0], void)


@pytest.mark.parametrize("place", ["annotations/{split}.json", "labels/{split}.json"])
def test_a_coco_file_may_have_other_names(tmp_path: Path, place: str) -> None:
    expected = labels(write_coco(tmp_path / "usual"), "val")
    for ours, theirs in zip(labels(write_coco(tmp_path / "other", place=place), "val"), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("place", "prefix"),
    [
        ("annotations/instances_default.json", ""),
        ("result.json", "images/"),
        ("result.json", "images\\3\\"),
        ("result.json", "..\\..\\label-studio\\media\\upload\\4\\"),
        ("result.json", "/data/upload/"),
    ],
)
@pytest.mark.parametrize("by_list", [False, True])
def test_a_file_of_all_splits_as_cvat_and_label_studio_export_it(
    tmp_path: Path, place: str, prefix: str, by_list: bool
) -> None:
    expected = {split: labels(write_coco(tmp_path / "usual"), split) for split in ("train", "val")}
    root = write_coco(tmp_path / "other")
    files = [root / f"annotations/instances_{split}.json" for split in ("train", "val")]
    train, val = (json.loads(file.read_text()) for file in files)
    for part in ("images", "annotations"):
        for entry in val[part]:
            entry["id"] += 100
    for entry in val["annotations"]:
        entry["image_id"] += 100
    whole = {part: train[part] + val[part] for part in ("images", "annotations")} | {"categories": val["categories"]}
    for entry in whole["images"]:
        entry["file_name"] = prefix + entry["file_name"]
    for file in files:
        file.unlink()
    (root / place).write_text(json.dumps(whole))
    if by_list:
        for split in ("train", "val"):
            listed = [shutil.move(file, root / "images") for file in (root / f"images/{split}").iterdir()]
            (root / f"{split}.txt").write_text("\n".join(Path(file).name for file in listed))
            (root / f"images/{split}").rmdir()
    assert Folder().describe(root).splits == ("train", "val")
    for split, theirs in expected.items():
        for ours, label in zip(labels(root, split), theirs, strict=True):
            np.testing.assert_array_equal(ours, label)


@pytest.mark.parametrize("beside", [False, True])
def test_lists_choose_among_labelme_files(tmp_path: Path, beside: bool) -> None:
    root = write_labelme(tmp_path, splits=("train",), frames=3, beside=beside)
    for part in ("images", "labels")[: 1 if beside else 2]:
        (root / part / "train").rename(root / part / "all")
    (root / "train.txt").write_text("all/train_0\nall/train_2.png\n")
    assert names(root, "train") == ["all/train_0", "all/train_2"]
    assert len(labels(root)) == 2
    assert Folder().describe(root).left_out == ("1 images are left out, they are in no list: all/train_1",)


@pytest.mark.parametrize("write", [write_labelme, write_coco])
def test_a_split_without_shapes_is_left_out_with_a_notice_and_train_needs_some(
    tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    root = write(tmp_path)
    for file in (*root.glob("labels/val/*"), *root.glob("annotations/*val*")):
        file.unlink()
    described = Folder().describe(root)
    assert described.splits == ("train",)
    assert described.left_out == (
        "split val is left out because none of its 2 images has shapes: they are not in the store",
    )
    (root / "images/train").rename(root / "images/other")
    (root / "images/val").rename(root / "images/train")
    shutil.rmtree(root / "labels", ignore_errors=True)
    for file in root.glob("annotations/*train*"):
        file.rename(root / "annotations/instances_other.json")
    with pytest.raises(DatasetError, match=r"but no file holds shapes|no label for the images in .*images/train"):
        Folder().describe(root)


@pytest.mark.parametrize(
    ("write", "other"),
    [
        (write_labelme, "labels/train/train_0.png"),
        (write_labelme, "images/train/train_0.json"),
        (write_labelme, "annotations/instances_train.json"),
        (write_coco, "labels/train/train_0.png"),
        (write_coco, "labels/val/val_1.png"),
        (write_coco, "annotations/train.json"),
        (write_coco, "images/train/train_1.json"),
    ],
)
def test_labels_of_two_kinds_are_an_error_that_names_both(
    tmp_path: Path, write: Callable[[Path], Path], other: str
) -> None:
    root = write(tmp_path)
    one = "labels/train/train_0.json" if write is write_labelme else "annotations/instances_train.json"
    if other.endswith(".png"):
        write_image(root / other, np.zeros((40, 60), np.uint8))
    else:
        (root / other).parent.mkdir(exist_ok=True)
        (root / other).write_text('{"shapes": [], "annotations": [{"segmentation": []}]}')
    with pytest.raises(
        DatasetError, match=r"both hold labels, and a dataset has one kind: move the others out"
    ) as caught:
        Folder().describe(root)
    assert str(root / one) in str(caught.value) and str(root / other) in str(caught.value)


def test_json_files_that_are_no_labels_do_not_disturb_labels_of_pixels(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    before = Folder().describe(root), [sample.digest() for sample in Folder().samples(root, "train")]
    for place in ("images/train/train_0.json", "labels/train/summary.json", "result.json", "images/info.json"):
        (root / place).write_text('{"camera": 3}')
    assert (Folder().describe(root), [sample.digest() for sample in Folder().samples(root, "train")]) == before
    root = write_coco(tmp_path / "coco")
    (root / "images/train/train_0.json").write_text('{"camera": 3}')
    assert len(labels(root)) == 2


@pytest.mark.parametrize(
    ("write", "text", "message"),
    [
        (
            write_folder,
            "labels: {car body: car}",
            r"labels: 'car body' is a name, but no file holds shapes; write label",
        ),
        (write_folder, "background: road", "background: is for shapes, but no file holds shapes"),
        (
            write_coco,
            "labels: {7: car}",
            r"labels: 7 is a value of pixels, but labels are shapes, as in .*_train\.json",
        ),
        (write_coco, "labels: {car body: kar}", "car body maps to 'kar', which is not a class; .*did you mean car"),
        (
            write_coco,
            "background: raod",
            "background: 'raod' is not a class; use one of road, car or void; did you mean",
        ),
        (write_coco, "background: 0", "background: 0 is not a class"),
        (write_coco, "labels: {ignore: void}", r"categories without a class: car body \(2 annotations\)"),
    ],
)
def test_what_classes_yaml_says_must_fit_the_labels(
    tmp_path: Path, write: Callable[[Path], Path], text: str, message: str
) -> None:
    root = write(tmp_path)
    (root / "classes.yaml").write_text(f"classes: [road, car]\n{text}\n")
    with pytest.raises(DatasetError, match=message):
        Folder().describe(root)
        Folder().samples(root, "train")


def test_missing_images_and_labels_are_bad_samples_that_name_them(tmp_path: Path) -> None:
    root = write_labelme(tmp_path / "labelme", frames=3)
    (root / "images/train/train_0.png").unlink()
    (root / "labels/train/train_1.json").unlink()
    first, second, third = Folder().samples(root, "train")
    with pytest.raises(BadSampleError, match=r"images/train/train_0\.png: the file is missing"):
        first.read()
    with pytest.raises(BadSampleError, match=r"labels/train/train_1\.json: the file is missing"):
        second.read()
    third.read()
    for place in ("annotations/instances_{split}.json", "result.json"):
        root = write_coco(tmp_path / place.partition("/")[0], splits=("train",), frames=3, place=place)
        file = next(iter(root.rglob("*.json")))
        (root / "images/train/train_0.png").unlink()
        edit(file, lambda content: content["images"][1].update(file_name="/../elsewhere.png"))
        samples = {sample.name: sample for sample in Folder().samples(root, "train")}
        assert list(samples) == ["elsewhere", "train_0", "train_1", "train_2"]
        samples["train_2"].read()
        for name, message in (
            ("train_0", r"images/train/train_0\.png: the file is missing"),
            ("elsewhere", r"images/train/elsewhere\.png: the file is missing"),
            ("train_1", r"\.json: its list `images` has no file_name for .*train_1\.png; add it, or remove the image"),
        ):
            with pytest.raises(BadSampleError, match=message):
                samples[name].read()
            with pytest.raises(BadSampleError, match=message):
                samples[name].digest()


def test_a_coco_file_of_other_images_is_an_error_that_shows_both_names(tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    shutil.copy(root / "annotations/instances_val.json", root / "annotations/instances_train.json")
    with pytest.raises(
        DatasetError, match=r"it has no image of .*images/train: it lists file names such as val_0\.png, and"
    ):
        Folder().samples(root, "train")


def test_a_file_name_of_two_images_and_two_of_one_image_are_errors(tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    (root / "images/train/north").mkdir()
    (root / "images/train/south").mkdir()
    shutil.move(root / "images/train/train_0.png", root / "images/train/north/train_0.png")
    assert names(root, "train") == ["north/train_0", "train_1"]
    shutil.copy(root / "images/train/north/train_0.png", root / "images/train/south/train_0.png")
    with pytest.raises(DatasetError, match=r"file_name 'train_0\.png' is both .*north/train_0\.png and .*south"):
        Folder().samples(root, "train")
    shutil.rmtree(root / "images/train/south")
    file = root / "annotations/instances_train.json"
    edit(file, lambda content: content["images"][1].update(file_name="north/train_0.png"))
    with pytest.raises(
        DatasetError, match=r"file_names 'train_0\.png' and 'north/train_0\.png' are both .*; merge their"
    ):
        Folder().samples(root, "train")


def test_a_truncated_coco_file_is_named(tmp_path: Path) -> None:
    file = write_coco(tmp_path) / "annotations/instances_val.json"
    file.write_text(file.read_text()[:-100])
    with pytest.raises(TextError, match=r"instances_val\.json: line 1: not valid JSON: it ends too early"):
        Folder().describe(tmp_path)


def test_a_file_changed_between_two_calls_is_read_again(tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    before = labels(root)[0]
    edit(root / "annotations/instances_train.json", lambda content: content["annotations"].clear())
    assert (before == 1).any() and (labels(root)[0] == 0).all()


def test_images_and_labelme_files_may_be_nested(tmp_path: Path) -> None:
    root = write_labelme(tmp_path)
    write_image(root / "images/train/north/a.b.png", random_image(np.random.default_rng(0)))
    (root / "labels/train/north").mkdir()
    shape = labelme_shape("car", [[0, 0], [60, 0], [60, 40], [0, 40]])
    (root / "labels/train/north/a.b.json").write_text(json.dumps(labelme_file("a.b.png", [shape])))
    assert names(root, "train")[0] == "north/a.b"
    assert (labels(root)[0] == 1).all()
