import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats import BadSampleError, DatasetError, remap
from gscnn_platform.data.formats.folder import Folder
from gscnn_platform.data.image_files import InputError
from gscnn_platform.text_files import TextError
from tests.layouts import random_image, write_folder, write_image

TABLE = """
classes:
  - {name: road, colour: [128, 64, 128]}
  - {name: car}
labels: {7: road, 8: road, 26: car, 0: void}
"""


def names(root: Path, split: str) -> list[str]:
    return [sample.name for sample in Folder().samples(root, split)]


def test_splits_are_the_folders_with_train_first(tmp_path: Path) -> None:
    write_folder(tmp_path, splits=("harbour", "val", "train"))
    assert Folder().describe(tmp_path).splits == ("train", "val", "harbour")
    assert names(tmp_path, "harbour") == ["harbour_0", "harbour_1"]


@pytest.mark.parametrize("ending", [".jpg", ".JPEG", ".bmp", ".tiff", ".webp"])
def test_images_of_any_usual_ending_are_read(tmp_path: Path, ending: str) -> None:
    write_folder(tmp_path, ending=ending)
    image, label = Folder().samples(tmp_path, "train")[0].read()
    assert image.shape == (40, 60, 3) and label.shape == (40, 60)


def test_nested_folders_are_part_of_the_name(tmp_path: Path) -> None:
    write_folder(tmp_path)
    for part, pixels in (("images", random_image(np.random.default_rng(0))), ("labels", np.zeros((40, 60), np.uint8))):
        write_image(tmp_path / part / "train/north/cam.1/a.b.png", pixels)
    assert names(tmp_path, "train") == ["north/cam.1/a.b", "train_0", "train_1"]
    Folder().samples(tmp_path, "train")[0].read()


def test_lists_give_splits_with_or_without_endings_comments_and_blank_lines(tmp_path: Path) -> None:
    write_folder(tmp_path, splits=("train", "val"), frames=3, lists=True)
    (tmp_path / "train.txt").write_text("# by hand\n\ntrain_2.png  # the foggy one\r\n./train_0\n")
    assert Folder().describe(tmp_path).splits == ("train", "val")
    assert names(tmp_path, "train") == ["train_0", "train_2"]
    Folder().samples(tmp_path, "train")[1].read()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train_0\ntrain_9\n", r"train\.txt: line 2: there is no image 'train_9' in .*images .*; add it or remove"),
        ("train_0.jpg\n", r"line 1: there is no image 'train_0\.jpg'"),
        ("train_0\n\ntrain_0.png\n", r"line 3: 'train_0\.png' is listed twice"),
        ("# nothing\n", r"train\.txt: no names"),
    ],
)
def test_a_wrong_line_of_a_list_is_named(tmp_path: Path, text: str, message: str) -> None:
    write_folder(tmp_path, lists=True)
    (tmp_path / "train.txt").write_text(text)
    with pytest.raises(DatasetError, match=message):
        Folder().samples(tmp_path, "train")


def test_both_layouts_at_once_are_rejected(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "val.txt").write_text("a\n")
    with pytest.raises(DatasetError, match=r"val\.txt and .*images/train both exist.*remove the lists or move"):
        Folder().describe(tmp_path)


def test_a_folder_without_either_layout_is_rejected(tmp_path: Path) -> None:
    write_folder(tmp_path, splits=("val",))
    with pytest.raises(DatasetError, match=r"no split `train`; create images/train/ .*; there is val: rename"):
        Folder().describe(tmp_path)


def test_an_image_beside_the_split_folders_is_rejected(tmp_path: Path) -> None:
    write_folder(tmp_path)
    write_image(tmp_path / "images/stray.png", random_image(np.random.default_rng(0)))
    with pytest.raises(DatasetError, match=r"stray\.png: this image is in no split"):
        Folder().describe(tmp_path)


@pytest.mark.parametrize("part", ["images", "labels"])
def test_a_missing_folder_is_named(tmp_path: Path, part: str) -> None:
    write_folder(tmp_path)
    (tmp_path / part).rename(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match=f"{part}: the folder is missing; root needs"):
        Folder().describe(tmp_path)


def test_a_split_without_labels_is_left_out_with_a_notice(tmp_path: Path) -> None:
    write_folder(tmp_path, splits=("train", "val", "test"))
    shutil.rmtree(tmp_path / "labels/test")
    described = Folder().describe(tmp_path)
    assert described.splits == ("train", "val")
    assert described.left_out == (
        f"split test is left out because {tmp_path}/labels/test is missing: its 2 images are not in the store",
    )


def test_images_in_no_list_and_lists_with_other_names_are_left_out_with_a_notice(tmp_path: Path) -> None:
    write_folder(tmp_path, splits=("train", "val"), frames=5, lists=True)
    (tmp_path / "val.txt").rename(tmp_path / "valid.txt")
    assert Folder().describe(tmp_path).left_out == (
        "valid.txt is left out: lists are train.txt, val.txt, test.txt",
        "5 images are left out, they are in no list: val_0, val_1, val_2, ...",
    )


def test_a_listed_split_without_labels_is_left_out_with_a_notice_and_train_needs_labels(tmp_path: Path) -> None:
    write_folder(tmp_path, splits=("train", "val", "test"), lists=True)
    for path in (tmp_path / "labels").glob("test*"):
        path.unlink()
    described = Folder().describe(tmp_path)
    assert described.splits == ("train", "val")
    assert described.left_out == ("split test is left out because none of the 2 images of test.txt has a label",)
    for path in (tmp_path / "labels").glob("train*"):
        path.unlink()
    with pytest.raises(DatasetError, match=r"no label has the name of an image: there are images such as .*train_0"):
        Folder().samples(tmp_path, Folder().describe(tmp_path).splits[0])


def test_names_with_a_hash_or_spaces_are_found_in_lists_beside_comments(tmp_path: Path) -> None:
    write_folder(tmp_path, frames=1, lists=True)
    odd = ["#1 frame", "frame #2", " lead", "C#", "50%"]
    for name in odd:
        for part in ("images", "labels"):
            shutil.copy(tmp_path / part / "train_0.png", tmp_path / part / f"{name}.png")
    (tmp_path / "train.txt").write_text("\n".join([*(f"{name}.png" for name in odd), "# by hand", "train_0 # last"]))
    assert names(tmp_path, "train") == sorted([*odd, "train_0"])


@pytest.mark.parametrize("name", ["held-out", "None", "-x", "a\\b", "a\nb"])
def test_an_invalid_split_name_is_rejected_before_anything_is_built(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path, splits=("train", name))
    with pytest.raises(DatasetError, match=r"is not a valid split name: rename the folder, without a backslash"):
        Folder().describe(tmp_path)


def test_folders_without_images_and_labels_are_not_splits(tmp_path: Path) -> None:
    write_folder(tmp_path)
    for name in ("images/empty", "labels/empty", "labels/only", "images/alone"):
        (tmp_path / name).mkdir()
    described = Folder().describe(tmp_path)
    assert (described.splits, described.left_out) == (("train", "val"), ())


@pytest.mark.parametrize(
    ("there", "missing"),
    [("Images", "images"), ("label", "labels"), ("classes.yml", "classes.yaml"), ("images/Val", "images/val")],
)
def test_the_error_suggests_an_existing_folder_with_a_similar_name(tmp_path: Path, there: str, missing: str) -> None:
    write_folder(tmp_path)
    (tmp_path / missing).rename(tmp_path / there)
    with pytest.raises(DatasetError, match=rf"the (file|folder) is missing.*; there is {Path(there).name}: rename it$"):
        Folder().describe(tmp_path)


def test_a_split_whose_folder_or_list_is_a_broken_link_is_an_error(tmp_path: Path) -> None:
    write_folder(tmp_path / "folders")
    shutil.rmtree(tmp_path / "folders/labels/val")
    (tmp_path / "folders/labels/val").symlink_to("unmounted")
    write_folder(tmp_path / "lists", lists=True)
    (tmp_path / "lists/val.txt").unlink()
    (tmp_path / "lists/val.txt").symlink_to("unmounted")
    for layout in ("folders", "lists"):
        with pytest.raises(InputError, match=r"val.*: a link to unmounted, which does not exist; restore or remove it"):
            Folder().describe(tmp_path / layout)


def test_a_split_name_in_another_encoding_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    write_folder(tmp_path)
    for part in ("images", "labels"):
        (tmp_path / part / "val").rename(tmp_path / part / os.fsdecode(b"\xb5\xc0"))
    with pytest.raises(InputError, match=r"\\xb5\\xc0.*: this name is not UTF-8"):
        Folder().describe(tmp_path)


def test_a_list_in_utf16_with_backslashes_is_read(tmp_path: Path) -> None:
    write_folder(tmp_path, lists=True)
    for part in ("images", "labels"):
        (tmp_path / part / "night").mkdir()
        (tmp_path / part / "train_0.png").rename(tmp_path / part / "night/道路.png")
    (tmp_path / "train.txt").write_bytes("night\\道路.png\r\ntrain_1\r\n".encode("utf-16"))
    assert names(tmp_path, "train") == ["night/道路", "train_1"]


def test_a_list_in_another_encoding_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path, lists=True)
    (tmp_path / "train.txt").write_bytes("道路\n".encode("gbk"))
    with pytest.raises(TextError, match=r"train\.txt: line 1: byte 0xb5 is not UTF-8"):
        Folder().samples(tmp_path, "train")


def test_accents_that_macos_decomposed_find_their_label_and_their_line(tmp_path: Path) -> None:
    write_folder(tmp_path, lists=True)
    (tmp_path / "images/train_0.png").rename(tmp_path / unicodedata.normalize("NFD", "images/é.png"))
    (tmp_path / "labels/train_0.png").rename(tmp_path / unicodedata.normalize("NFC", "labels/é.png"))
    (tmp_path / "train.txt").write_text("é.png\n")
    [sample] = Folder().samples(tmp_path, "train")
    assert sample.name == unicodedata.normalize("NFC", "é")
    sample.read()


@pytest.mark.parametrize(("part", "ending"), [("images", ".jpg"), ("labels", ".bmp")])
def test_two_files_with_the_same_stem_are_rejected(tmp_path: Path, part: str, ending: str) -> None:
    write_folder(tmp_path)
    twin = tmp_path / part / f"train/train_0{ending}"
    write_image(twin, np.zeros((40, 60), np.uint8))
    with pytest.raises(DatasetError, match=r"have the same name, 'train_0'; rename or remove one"):
        Folder().samples(tmp_path, "train")


@pytest.mark.parametrize("lists", [False, True])
def test_an_image_without_label_is_listed_and_reported_when_read(tmp_path: Path, lists: bool) -> None:
    write_folder(tmp_path, lists=lists)
    next((tmp_path / "labels").rglob("train_1.png")).unlink()
    samples = Folder().samples(tmp_path, "train")
    assert len(samples) == 2
    with pytest.raises(BadSampleError, match=r"labels/.*train_1\.png: the file is missing"):
        samples[1].read()


def test_a_label_without_image_is_listed_and_reported_when_read(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "images/train/train_0.png").unlink()
    with pytest.raises(BadSampleError, match=r"images/train/train_0\.png: the file is missing"):
        Folder().samples(tmp_path, "train")[0].read()


def test_without_a_table_raw_values_are_train_ids_and_255_is_void(tmp_path: Path) -> None:
    assert Folder().describe(write_folder(tmp_path)).label_table == {0: 0, 1: 1, 255: IGNORE_INDEX}


def test_a_table_joins_raw_values_into_classes_and_void(tmp_path: Path) -> None:
    (write_folder(tmp_path) / "classes.yaml").write_text(TABLE)
    table = Folder().describe(tmp_path).label_table
    raw = np.array([[7, 8, 26, 0, 255]], np.uint8)
    np.testing.assert_array_equal(remap(raw, table), [[0, 0, 1, IGNORE_INDEX, IGNORE_INDEX]])


def test_255_is_a_class_if_the_table_says_so(tmp_path: Path) -> None:
    (write_folder(tmp_path) / "classes.yaml").write_text(
        "classes: [floor, wall]\nlabels: {255: wall, 1: floor, 0: void}\n"
    )
    assert Folder().describe(tmp_path).label_table == {255: 1, 1: 0, 0: IGNORE_INDEX}


def test_default_colours_differ_from_each_other_and_from_chosen_ones(tmp_path: Path) -> None:
    first = Folder().describe(write_folder(tmp_path, classes={"classes": ["a", "b"]})).colours[0]
    entries = [{"name": "own", "colour": list(first)}] + [{"name": f"c{index}"} for index in range(254)]
    colours = Folder().describe(write_folder(tmp_path, classes={"classes": entries})).colours
    assert colours[0] == first and len(set(colours)) == 255


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "the file is missing; write one with classes:"),
        ("- road", r"holds \['road'\]; it needs a field `classes`"),
        ("class: [a, b]", "class: there is no such field; the fields are classes and labels; did you mean classes?"),
        ("classes: []", r"classes: is \[\]; it must be a list"),
        ("classes: {a: 1}", r"classes: is \{'a': 1\}; it must be a list"),
        ("classes: [a, a]", "classes: 'a' is listed 2 times; give every class its own name"),
        ("classes: [a, void]", "'void' is not a class; remove it"),
        ("classes: [a, VOID]", "'VOID' is not a class; remove it"),
        ("classes: [cafe\u0301, caf\u00e9]", "'caf\u00e9' is listed 2 times"),
        ('classes: ["a\\nb", c]', r"classes\.0: 'a\\nb' has the character U\+000A; a name is printable text"),
        ('classes: [c, {name: "\\ud800"}]', r"classes\.1\.name: .*U\+D800"),
        ("classes: [a, b]\nlabels: {}", r"labels: is \{\}; it must map raw values to classes: \{7: a"),
        ("classes: [a, b]\nlabels: {a: 0, b: 1}", r"labels: 'a' comes before its value; .*: \{0: a\}$"),
        ("classes: {0: a}", r"classes: is \{0: 'a'\}; it must be a list"),
        ("classes: [a, no]", r"classes\.1: YAML reads this name as False; put it in quotes"),
        ("classes: [a, {name: 7}]", r"classes\.1\.name: YAML reads this name as 7; put it in quotes"),
        ("classes: [a, {colour: [1, 2, 3]}]", r"classes\.1: .* has no name; write \{name: NAME\}"),
        ("classes: [a, ' ']", r"classes\.1: ' ' is not a class name"),
        ("classes: [{name: a, color: [1, 2, 3]}]", r"classes\.0\.color: there is no such field; .*mean colour\?"),
        ("classes: [{name: a, colour: [1, 2, 300]}]", r"classes\.0\.colour: \[1, 2, 300\] must be three whole numbers"),
        ("classes: [{name: a, colour: red}]", r"classes\.0\.colour: 'red' must be three whole numbers"),
        ("classes: [a, road]\nlabels: {7: raod}", "7 maps to 'raod', which is not a class; .*did you mean road?"),
        ("classes: [a, b]\nlabels: {-1: a}", "labels: -1 is not a label value; use whole numbers from 0 to 65535"),
        ("classes: [a, b]\nlabels: {'1': a}", "labels: '1' is not a label value; .*without quotes"),
        ("classes: [a, b]\nlabels: [a, b]", r"labels: is \['a', 'b'\]; it must map raw values to classes: \{7: a"),
        ("classes: [road]", r"'road' is the only class.*\n.*classes: \[background, road\]\n.*255: road"),
    ],
)
def test_a_wrong_classes_file_is_named_with_field_and_value(tmp_path: Path, text: str | None, message: str) -> None:
    path = write_folder(tmp_path) / "classes.yaml"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(DatasetError, match=message) as caught:
        Folder().describe(tmp_path)
    assert str(path) in str(caught.value)


def test_names_in_labels_are_those_of_classes_however_accents_and_spaces_are_written(tmp_path: Path) -> None:
    text = "classes: [' café', wall]\nlabels: {3: 'cafe\u0301 ', 4: wall}\n"
    (write_folder(tmp_path) / "classes.yaml").write_text(text)
    described = Folder().describe(tmp_path)
    assert described.classes == ("café", "wall")
    assert described.label_table == {3: 0, 4: 1, 255: IGNORE_INDEX}


def test_a_long_wrong_value_of_the_classes_file_is_shortened(tmp_path: Path) -> None:
    classes: dict[str, object] = {"classes": {f"class {index}": index for index in range(200)}}
    with pytest.raises(DatasetError, match=r"classes: is \{'class 0': 0, .*\.\.\.\}; it must be a list") as caught:
        Folder().describe(write_folder(tmp_path, classes=classes))
    assert len(str(caught.value)) < 400


def test_the_advice_for_one_class_works_when_it_is_typed(tmp_path: Path) -> None:
    path = write_folder(tmp_path) / "classes.yaml"
    path.write_text("classes: [road]")
    with pytest.raises(DatasetError) as caught:
        Folder().describe(tmp_path)
    _, of_1, of_255 = (line.partition(":  ")[2].strip() for line in str(caught.value).splitlines())
    path.write_text(of_1)
    assert Folder().describe(tmp_path).label_table == {0: 0, 1: 1, 255: IGNORE_INDEX}
    path.write_text(f"{of_1}\n{of_255.removeprefix('the same, and').strip()}\n")
    assert Folder().describe(tmp_path).label_table == {0: 0, 255: 1}


def test_plain_names_and_mappings_may_be_mixed(tmp_path: Path) -> None:
    (write_folder(tmp_path) / "classes.yaml").write_text("classes:\n- road\n- {name: car, colour: [1, 2, 3]}\n")
    described = Folder().describe(tmp_path)
    assert described.classes == ("road", "car")
    assert described.colours[1] == (1, 2, 3)
