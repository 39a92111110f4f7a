from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats import BadSampleError, DatasetError, remap
from gscnn_platform.data.formats.base import FileSample
from gscnn_platform.data.formats.voc import VOC
from tests.layouts import VOC_NAMES, write_image, write_list, write_voc

DEVKIT = "VOCdevkit/VOC2012"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_voc(tmp_path)


@pytest.mark.parametrize("below", ["", "VOC2012", DEVKIT])
def test_the_root_may_be_the_devkit_or_a_folder_above_it(tmp_path: Path, below: str) -> None:
    root = write_voc(tmp_path, below)
    assert [sample.name for sample in VOC().samples(root, "val")] == sorted(VOC_NAMES["val"])


def test_palette_indices_are_the_classes_and_255_is_void(root: Path) -> None:
    sample = VOC().samples(root, "train")[0]
    assert isinstance(sample, FileSample)
    label = sample.read()[1]
    np.testing.assert_array_equal(label, np.array(Image.open(root / DEVKIT / "SegmentationClass/2007_000032.png")))
    expected = [[int(value) if value < 21 else IGNORE_INDEX for value in row] for row in label]
    np.testing.assert_array_equal(remap(label, VOC().describe(root).label_table), expected)


@pytest.mark.parametrize(
    ("index", "name", "colour"),
    [(0, "background", (0, 0, 0)), (1, "aeroplane", (128, 0, 0)), (7, "car", (128, 128, 128)),
     (15, "person", (192, 128, 128)), (19, "train", (128, 192, 0)), (20, "tvmonitor", (0, 64, 128))],
)  # fmt: skip
def test_published_ids_names_and_colours(root: Path, index: int, name: str, colour: tuple[int, int, int]) -> None:
    description = VOC().describe(root)
    assert (description.classes[index], description.colours[index]) == (name, colour)
    assert len(set(description.colours)) == 21


def test_sbd_is_another_folder_and_another_list(root: Path) -> None:
    write_list(root / DEVKIT / "ImageSets/Segmentation/trainaug.txt", [*VOC_NAMES["train"], "2011_003271"])
    for name in (*VOC_NAMES["train"], *VOC_NAMES["val"], "2011_003271"):
        write_image(root / DEVKIT / f"SegmentationClassAug/{name}.png", np.full((40, 60), 15, np.uint8))
    write_image(root / DEVKIT / "JPEGImages/2011_003271.jpg", np.zeros((40, 60, 3), np.uint8))
    samples = VOC(train="trainaug", labels="SegmentationClassAug").samples(root, "train")
    assert [sample.name for sample in samples] == [*VOC_NAMES["train"], "2011_003271"]
    assert (samples[2].read()[1] == 15).all()


def test_val_is_left_out_if_train_has_its_images(root: Path) -> None:
    description = VOC(train="trainval").describe(root)
    assert description.splits == ("train",)
    assert description.left_out == ("split val is left out: 2 of its 2 images are in trainval.txt, the list of train",)
    assert len(VOC(train="trainval").samples(root, "train")) == 4


def test_a_list_that_is_missing_is_reported_with_those_that_exist(root: Path) -> None:
    with pytest.raises(DatasetError, match=r"trainaug\.txt: the list is missing.*lists are train, trainval, val"):
        VOC(train="trainaug").describe(root)


def test_a_name_that_is_listed_twice_is_rejected(root: Path) -> None:
    write_list(root / DEVKIT / "ImageSets/Segmentation/train.txt", ["2007_000032", "2007_000032"])
    with pytest.raises(DatasetError, match=r"train\.txt: '2007_000032' is listed twice"):
        VOC().describe(root)


def test_a_listed_image_without_a_label_is_reported_with_the_path_where_it_should_lie(root: Path) -> None:
    (root / DEVKIT / "SegmentationClass/2007_000039.png").unlink()
    with pytest.raises(BadSampleError, match=r"SegmentationClass/2007_000039\.png: the file is missing"):
        VOC().samples(root, "train")[1].read()


def test_folders_that_are_missing_are_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"JPEGImages: the folder is missing; root must be VOCdevkit/VOC2012"):
        VOC().describe(root / DEVKIT / "ImageSets")
    with pytest.raises(DatasetError, match=r"SegmentationClassAug: the folder of the labels is missing; unpack it"):
        VOC(labels="SegmentationClassAug").describe(root)
