import shutil
from pathlib import Path

import numpy as np
import pytest

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats import BadSampleError, DatasetError, remap
from gscnn_platform.data.formats.bdd100k import BDD100K
from gscnn_platform.data.formats.cityscapes import Cityscapes
from tests.layouts import write_bdd100k, write_cityscapes


@pytest.mark.parametrize("old", [False, True])
def test_both_layouts_are_read_alike(tmp_path: Path, old: bool) -> None:
    root = write_bdd100k(tmp_path, old)
    description = BDD100K().describe(root)
    assert description.splits == ("train", "val")
    samples = BDD100K().samples(root, "train")
    assert [sample.name for sample in samples] == ["t000f755-0db", "t001f755-1db"]
    label = samples[0].read()[1]
    expected = [[int(value) if value < 19 else IGNORE_INDEX for value in row] for row in label]
    np.testing.assert_array_equal(remap(label, description.label_table), expected)


def test_classes_and_colours_are_those_of_cityscapes(tmp_path: Path) -> None:
    ours = BDD100K().describe(write_bdd100k(tmp_path / "bdd"))
    theirs = Cityscapes().describe(write_cityscapes(tmp_path / "cityscapes"))
    assert (ours.classes, ours.colours) == (theirs.classes, theirs.colours)


def test_colour_pictures_of_the_older_layout_are_not_taken_for_labels(tmp_path: Path) -> None:
    root = write_bdd100k(tmp_path, old=True)
    for label in list((root / "seg/labels/train").iterdir()):
        shutil.copy(label, label.with_name(label.name.replace("_train_id", "_train_color")))
    assert len(BDD100K().samples(root, "train")) == 2


def test_test_is_left_out_with_a_notice(tmp_path: Path) -> None:
    root = write_bdd100k(tmp_path)
    assert BDD100K().describe(root).left_out == (
        f"split test is left out because {root}/labels/sem_seg/masks/test is missing: its 1 images are not in the "
        "store",
    )


def test_a_missing_label_is_reported_with_the_path_where_it_should_lie(tmp_path: Path) -> None:
    root = write_bdd100k(tmp_path)
    lost = root / "labels/sem_seg/masks/val/v001f755-1db.png"
    lost.unlink()
    with pytest.raises(BadSampleError, match=f"{lost}: the file is missing"):
        BDD100K().samples(root, "val")[1].read()


def test_a_root_without_either_layout_is_rejected(tmp_path: Path) -> None:
    (write_bdd100k(tmp_path) / "images").rename(tmp_path / "pictures")
    message = r"images/10k/train: the folder is missing; root must be the folder that holds images/10k/, or the older"
    with pytest.raises(DatasetError, match=r"train.*the folder is missing"):
        BDD100K().describe(tmp_path)
    with pytest.raises(DatasetError, match=message):
        BDD100K().describe(tmp_path / "labels")
