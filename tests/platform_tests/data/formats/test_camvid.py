"""CamVid's layout, and with it what every format that reads files shares."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats import BadSampleError, DatasetDescription, DatasetError, remap
from gscnn_platform.data.formats.base import FileSample
from gscnn_platform.data.formats.camvid import CLASSES, CamVid
from gscnn_platform.data.image_files import InputError
from tests.layouts import random_image, random_label, write_camvid, write_image

RED = (200, 30, 10)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_camvid(tmp_path / "camvid")


@pytest.fixture
def sample(tmp_path: Path) -> FileSample:
    rng = np.random.default_rng(1)
    image = write_image(tmp_path / "a.png", random_image(rng))
    return FileSample("a", image, write_image(tmp_path / "label.png", random_label(rng, [0, 1, 11])))


def test_camvid_lists_its_frames_by_name_and_reads_them(root: Path) -> None:
    samples = CamVid().samples(root, "val")
    assert [sample.name for sample in samples] == ["0001TP_val000", "0001TP_val001", "0001TP_val002"]
    image, label = samples[1].read()
    with Image.open(root / "val/0001TP_val001.png") as file:
        np.testing.assert_array_equal(image, np.asarray(file))
    with Image.open(root / "valannot/0001TP_val001.png") as file:
        np.testing.assert_array_equal(label, np.asarray(file))


def test_camvid_maps_eleven_classes_and_makes_eleven_void(root: Path) -> None:
    description = CamVid().describe(root)
    assert len(description.classes) == 11 and description.classes[7] == "fence"
    assert description.label_table == {raw: raw for raw in range(11)} | {11: IGNORE_INDEX}
    assert len(set(CLASSES.values())) == 11


def test_only_splits_whose_folders_exist_are_listed(root: Path) -> None:
    assert CamVid().describe(root).splits == ("train", "val")
    shutil.rmtree(root / "val")
    shutil.rmtree(root / "valannot")
    assert CamVid().describe(root).splits == ("train",)
    with pytest.raises(DatasetError, match=r"split: 'val' does not exist.*the splits are train$"):
        CamVid().samples(root, "val")


def test_a_missing_train_folder_is_named(root: Path) -> None:
    shutil.rmtree(root / "train")
    shutil.rmtree(root / "trainannot")
    with pytest.raises(DatasetError, match=r"camvid/train: the folder is missing; root must be"):
        CamVid().describe(root)


@pytest.mark.parametrize("emptied", [False, True])
def test_a_split_without_labels_is_left_out_with_a_notice_and_the_others_are_built(root: Path, emptied: bool) -> None:
    write_camvid(root, splits=("test",))
    shutil.rmtree(root / "testannot")
    if emptied:
        (root / "testannot").mkdir()
    described = CamVid().describe(root)
    assert described.splits == ("train", "val")
    lack = "has no label" if emptied else "is missing"
    assert described.left_out == (
        f"split test is left out because {root}/testannot {lack}: its 3 images are not in the store",
    )
    assert len(CamVid().samples(root, "val")) == 3


def test_folders_that_look_like_another_split_are_left_out_with_a_notice(root: Path) -> None:
    write_camvid(root, splits=("valid",))
    (root / "notes").mkdir()
    assert CamVid().describe(root).left_out == (f"{root}/valid is left out: the splits of camvid are train, val, test",)


@pytest.mark.parametrize("part", ["val", "valannot", "train"])
def test_a_folder_that_is_a_broken_link_is_an_error_and_not_a_missing_split(root: Path, part: str) -> None:
    for folder in (part, "valannot"):
        (root / folder).rename(root / f"{folder}-before") if (root / folder).is_dir() else None
        (root / folder).unlink(missing_ok=True)
        (root / folder).symlink_to("unmounted")
    with pytest.raises(InputError, match=rf"{root}/.*: a link to unmounted, which does not exist; restore"):
        CamVid().describe(root)


def test_the_error_suggests_a_folder_with_other_capitals(root: Path) -> None:
    (root / "train").rename(root / "Train")
    (root / "trainannot").rename(root / "Trainannot")
    with pytest.raises(DatasetError, match=r"camvid/train: the folder is missing; .*; there is Train: rename it$"):
        CamVid().describe(root)
    with pytest.raises(DatasetError, match=r"root: .*CamVid is not a folder: .*; there is camvid$"):
        CamVid().describe(root.with_name("CamVid"))


def test_training_labels_and_the_images_of_labels_are_required(root: Path) -> None:
    shutil.rmtree(root / "val")
    with pytest.raises(
        DatasetError, match=r"camvid/val: the folder is missing; split 'val' needs images for .*valannot"
    ):
        CamVid().describe(root)
    shutil.rmtree(root / "trainannot")
    with pytest.raises(DatasetError, match=r"trainannot: the folder is missing; training needs a label for each image"):
        CamVid().describe(root)


def test_an_empty_image_folder_is_named(root: Path) -> None:
    for file in (root / "train").iterdir():
        file.unlink()
    with pytest.raises(DatasetError, match=r"camvid/train: it has no image \(\.png, \.jpg, .*is it the right root"):
        CamVid().samples(root, "train")


def test_labels_that_match_no_image_name_are_reported_once(root: Path) -> None:
    for file in (root / "trainannot").iterdir():
        file.rename(file.with_name(f"{file.stem}_mask.png"))
    with pytest.raises(
        DatasetError, match=r"no label has the name of an image: .*train000\.png and .*train000_mask\.png"
    ):
        CamVid().samples(root, "train")


@pytest.mark.parametrize(
    ("given", "message"),
    [(None, "pass the dataset's root folder"), ("nowhere", "is not a folder: pass"), ("a.zip", "is a file: unpack it")],
)
def test_a_root_that_is_not_a_folder_is_rejected(tmp_path: Path, given: str | None, message: str) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK")
    with pytest.raises(DatasetError, match=f"^root: .*{message}"):
        CamVid().describe(tmp_path / given if given else None)


@pytest.mark.parametrize("lost", ["train/0001TP_train001.png", "trainannot/0001TP_train001.png"])
def test_a_frame_without_its_partner_is_listed_and_read_names_the_missing_file(root: Path, lost: str) -> None:
    (root / lost).unlink()
    samples = CamVid().samples(root, "train")
    assert len(samples) == 3
    with pytest.raises(BadSampleError, match=f"{lost}: the file is missing"):
        samples[1].read()
    with pytest.raises(BadSampleError, match=f"{lost}: the file is missing"):
        samples[1].digest()


def test_palette_labels_are_read_as_indices(sample: FileSample) -> None:
    label = random_label(np.random.default_rng(2), [0, 3, 200])
    write_image(sample.label, label, mode="P")
    np.testing.assert_array_equal(sample.read()[1], label)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_palettes_of_a_few_bits_are_read_as_indices(sample: FileSample, bits: int) -> None:
    label = random_label(np.random.default_rng(2), list(range(2**bits)))
    picture = Image.fromarray(label)
    picture.putpalette([channel for index in range(2**bits) for channel in (200 - index, index, 7)])
    assert isinstance(sample.label, Path)
    picture.save(sample.label, bits=bits)
    assert sample.label.read_bytes()[24] == bits  # The bit depth in the PNG's header.
    np.testing.assert_array_equal(sample.read()[1], label)


def test_16_bit_labels_keep_their_values(sample: FileSample) -> None:
    label = np.full((40, 60), 26001, np.uint16)
    write_image(sample.label, label)
    read = sample.read()[1]
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, label)


def test_a_colour_label_is_rejected(sample: FileSample) -> None:
    write_image(sample.label, random_image(np.random.default_rng(0)))
    with pytest.raises(BadSampleError, match=r"label\.png: the label has colours \(mode RGB\); labels must be"):
        sample.read()


def test_a_four_bit_grey_label_is_rejected_because_pillow_would_stretch_its_values(sample: FileSample) -> None:
    data = bytearray(sample.label.read_bytes())
    data[24] = 4  # The bit depth in the PNG's header.
    sample.label.write_bytes(bytes(data))
    with pytest.raises(BadSampleError, match="a grey label of 4-bit numbers"):
        sample.read()


def test_negative_label_values_are_rejected(sample: FileSample, tmp_path: Path) -> None:
    label = write_image(tmp_path / "label.tif", np.full((40, 60), -1, np.int32))
    with pytest.raises(BadSampleError, match=r"label\.tif: label values from -1 to -1; they must be 0\.\.65535"):
        FileSample("a", sample.image, label).read()


def test_a_grey_image_becomes_three_equal_channels(sample: FileSample) -> None:
    grey = random_image(np.random.default_rng(3))[..., 0]
    write_image(sample.image, grey)
    np.testing.assert_array_equal(sample.read()[0], np.stack([grey] * 3, axis=-1))


def test_an_alpha_channel_is_dropped(sample: FileSample) -> None:
    pixels = np.dstack([random_image(np.random.default_rng(3)), np.zeros((40, 60), np.uint8)])
    write_image(sample.image, pixels)
    np.testing.assert_array_equal(sample.read()[0], pixels[..., :3])


def test_a_16_bit_image_is_rejected(sample: FileSample) -> None:
    write_image(sample.image, np.full((40, 60), 999, np.uint16))
    with pytest.raises(BadSampleError, match=r"a\.png: the image has 16 bits per channel; images have 8: convert it"):
        sample.read()


def test_different_sizes_name_both_files(sample: FileSample) -> None:
    write_image(sample.label, np.zeros((40, 61), np.uint8))
    with pytest.raises(BadSampleError, match=r"a\.png is 60x40 but .*label\.png is 61x40"):
        sample.read()


@pytest.mark.parametrize("part", ["image", "label"])
@pytest.mark.parametrize(("kept", "message"), [(0.0, r"is empty \(0 bytes\)"), (0.6, "cannot be decoded.*truncated")])
def test_an_empty_or_truncated_file_is_named(sample: FileSample, part: str, kept: float, message: str) -> None:
    path = {"image": sample.image, "label": sample.label}[part]
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(BadSampleError, match=f"{path.name}: .*{message}"):
        sample.read()


@pytest.mark.parametrize("part", ["image", "label"])
def test_a_file_that_is_not_an_image_is_named(sample: FileSample, part: str) -> None:
    path = {"image": sample.image, "label": sample.label}[part]
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(BadSampleError, match=f"{path.name}: the {part} cannot be decoded"):
        sample.read()


def test_the_digest_depends_on_both_contents_and_neither_path(sample: FileSample, tmp_path: Path) -> None:
    first = sample.digest()
    shutil.copytree(tmp_path, tmp_path / "copy")
    moved = FileSample("b", tmp_path / "copy/a.png", tmp_path / "copy/label.png")
    assert moved.digest() == first and len(first) == 64
    write_image(moved.label, np.zeros((40, 60), np.uint8))
    assert moved.digest() != first
    assert FileSample("a", sample.label, sample.image).digest() != first


def test_remap_takes_each_raw_value_to_its_train_id() -> None:
    raw = np.array([[7, 8, 300], [0, 7, 65535]], np.uint16)
    out = remap(raw, {7: 0, 8: 0, 300: 1, 0: IGNORE_INDEX, 65535: 2})
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, [[0, 0, 1], [IGNORE_INDEX, 0, 2]])


def test_remap_names_unknown_values_with_their_pixel_counts() -> None:
    raw = np.array([[0, 5, 5], [9, 0, 5]], np.uint8)
    with pytest.raises(BadSampleError, match=r"outside the label table: 5 \(3 px\), 9 \(1 px\); the table has 0$"):
        remap(raw, {0: 0})


def test_the_first_of_many_unknown_values_are_listed_and_the_table_is_shown_as_ranges() -> None:
    raw = np.arange(1000, dtype=np.uint16).reshape(10, 100)
    table = dict.fromkeys((*range(20), 40, 255), 0)
    with pytest.raises(
        BadSampleError, match=r": 20 \(1 px\), .*29 \(1 px\) and 968 more; the table has 0-19, 40, 255$"
    ):
        remap(raw, table)


@pytest.mark.parametrize(
    ("classes", "colours", "table", "message"),
    [
        ((), (), {}, "0 classes"),
        (("a", "a"), (RED, RED), {}, r"\['a'\] are listed more than once"),
        (("a", "b"), (RED,), {}, "1 colours for 2 classes"),
        (("a",), (RED,), {}, "1 classes; a dataset has 2 to 255"),
        (("a", "b"), (RED, (0, 0, 256)), {}, r"b has \(0, 0, 256\)"),
        (("a", "b"), (RED, RED), {3: 2}, "raw value 3 maps to train id 2"),
        (("a", "b"), (RED, RED), {-1: 0}, "raw value -1"),
    ],
)
def test_a_contradictory_description_is_rejected(
    classes: tuple[str, ...], colours: tuple[tuple[int, int, int], ...], table: dict[int, int], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        DatasetDescription(classes, colours, table, ("train",))
