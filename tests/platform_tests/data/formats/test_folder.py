import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from gscnn_platform.data.formats import BadSampleError, DatasetError
from gscnn_platform.data.formats.folder import Folder
from gscnn_platform.data.image_files import InputError
from gscnn_platform.text_files import TextError
from tests.layouts import random_image, write_folder, write_image


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
