import shutil
from pathlib import Path

import numpy as np
import pytest

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats import BadSampleError, DatasetError, remap
from gscnn_platform.data.formats.cityscapes import Cityscapes
from tests.layouts import write_cityscapes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_cityscapes(tmp_path)


def test_cityscapes_names_frames_by_city_and_pairs_image_with_label_ids(root: Path) -> None:
    samples = Cityscapes().samples(root, "train")
    assert [sample.name for sample in samples] == [
        "aachen/aachen_000000_000019",
        "aachen/aachen_000001_000019",
        "bremen/bremen_000000_000019",
        "bremen/bremen_000001_000019",
    ]
    image, label = samples[0].read()
    assert image.shape == (40, 60, 3) and label.shape == (40, 60)


def test_other_label_pictures_of_cityscapes_are_not_taken_for_labels(root: Path) -> None:
    label = root / "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png"
    for kind in ("color", "instanceIds", "labelTrainIds"):
        shutil.copy(label, label.with_name(label.name.replace("labelIds", kind)))
    assert len(Cityscapes().samples(root, "train")) == 4


def test_all_34_raw_ids_are_mapped_and_19_of_them_are_classes(root: Path) -> None:
    description = Cityscapes().describe(root)
    assert set(description.label_table) == {*range(34), 255}
    ids = [train_id for train_id in description.label_table.values() if train_id != IGNORE_INDEX]
    assert sorted(ids) == list(range(19))
    assert len(set(description.classes)) == len(set(description.colours)) == 19


@pytest.mark.parametrize(
    ("raw", "name", "colour"),
    [(7, "road", (128, 64, 128)), (8, "sidewalk", (244, 35, 232)), (23, "sky", (70, 130, 180)),
     (26, "car", (0, 0, 142)), (31, "train", (0, 80, 100)), (33, "bicycle", (119, 11, 32))],
)  # fmt: skip
def test_official_ids_names_and_colours(root: Path, raw: int, name: str, colour: tuple[int, int, int]) -> None:
    description = Cityscapes().describe(root)
    train_id = description.label_table[raw]
    assert (description.classes[train_id], description.colours[train_id]) == (name, colour)


def test_ego_vehicle_and_other_unevaluated_ids_become_void(root: Path) -> None:
    raw = np.array([[0, 1, 4, 9, 29, 30]], np.uint8)
    assert (remap(raw, Cityscapes().describe(root).label_table) == IGNORE_INDEX).all()


def test_test_is_not_a_split_because_its_labels_are_not_public(root: Path) -> None:
    write_cityscapes(root, splits=("test",), cities=("berlin",))
    assert Cityscapes().describe(root).splits == ("train", "val")
    with pytest.raises(DatasetError, match=r"split: 'test' does not exist.*train, val"):
        Cityscapes().samples(root, "test")


def test_a_missing_label_is_reported_with_the_path_where_it_should_lie(root: Path) -> None:
    lost = root / "gtFine/val/bremen/bremen_000001_000019_gtFine_labelIds.png"
    lost.unlink()
    with pytest.raises(BadSampleError, match=f"{lost}: the file is missing"):
        Cityscapes().samples(root, "val")[3].read()


def test_a_root_one_folder_too_deep_is_rejected(root: Path) -> None:
    with pytest.raises(DatasetError, match=r"leftImg8bit/train: the folder is missing; root must be the folder that"):
        Cityscapes().describe(root / "leftImg8bit")


def test_an_archive_that_was_not_unpacked_is_reported(root: Path) -> None:
    shutil.rmtree(root / "gtFine")
    with pytest.raises(DatasetError, match=r"gtFine: the folder is missing; unpack both archives"):
        Cityscapes().describe(root)


def test_labels_without_label_ids_are_reported(root: Path) -> None:
    for path in (root / "gtFine/train").rglob("*.png"):
        path.rename(path.with_name(path.name.replace("labelIds", "labelTrainIds")))
    message = r"train: none of its 4 images is named \*_gtFine_labelIds\.png, for example .*_labelTrainIds\.png$"
    with pytest.raises(DatasetError, match=message):
        Cityscapes().samples(root, "train")


def test_endings_in_capitals_are_the_same_endings(root: Path) -> None:
    before = [sample.name for sample in Cityscapes().samples(root, "train")]
    for path in list((root / "leftImg8bit/train/aachen").iterdir()):
        path.rename(path.with_suffix(".PNG"))
    samples = Cityscapes().samples(root, "train")
    assert [sample.name for sample in samples] == before
    samples[0].read()


def test_splits_without_fine_labels_are_left_out_with_a_notice(root: Path) -> None:
    write_cityscapes(root, splits=("test", "train_extra"), cities=("berlin",))
    shutil.rmtree(root / "gtFine/val")
    described = Cityscapes().describe(root)
    assert described.splits == ("train",)
    assert described.left_out == (
        f"split val is left out because {root}/gtFine/val is missing: its 4 images are not in the store",
        "split test is left out: its labels are not public, those in gtFine/test are dummies",
        "split train_extra is left out: it has no fine annotations",
    )
