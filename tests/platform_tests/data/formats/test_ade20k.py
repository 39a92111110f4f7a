from pathlib import Path

import numpy as np
import pytest

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats import DatasetError, remap
from gscnn_platform.data.formats.ade20k import ADE20K
from tests.layouts import write_ade20k


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_ade20k(tmp_path)


def test_training_and_validation_are_the_splits_train_and_val(root: Path) -> None:
    assert ADE20K().describe(root).splits == ("train", "val")
    assert [sample.name for sample in ADE20K().samples(root, "val")] == ["ADE_val_00000001", "ADE_val_00000002"]


def test_raw_0_is_void_and_raw_1_to_150_are_the_classes(root: Path) -> None:
    raw = np.arange(151, dtype=np.uint8)[None]
    assert remap(raw, ADE20K().describe(root).label_table).tolist() == [[IGNORE_INDEX, *range(150)]]


def test_classes_have_the_first_of_their_names_and_distinct_colours(root: Path) -> None:
    description = ADE20K().describe(root)
    assert description.classes[:4] == ("wall", "building", "sky", "thing 4")
    assert len(set(description.classes)) == len(set(description.colours)) == 150


def test_classes_that_share_their_first_name_have_all_of_their_names(root: Path) -> None:
    file = root / "objectInfo150.txt"
    file.write_text(file.read_text().replace("thing 8, object 8", "thing 7; screen"))
    classes = ADE20K().describe(root).classes
    assert (classes[6], classes[7]) == ("thing 7, object 7", "thing 7; screen")


def test_missing_names_are_reported_with_the_place_where_they_belong(root: Path) -> None:
    file = root / "objectInfo150.txt"
    (root / "objectinfo150.txt").write_text(file.read_text())
    file.unlink()
    message = r"objectInfo150\.txt: the file is missing.*beside images/ and annotations/.*there is objectinfo150\.txt"
    with pytest.raises(DatasetError, match=message):
        ADE20K().describe(root)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("1: wall\n2: building\n", r"its columns are \['1: wall'\]; expected a table of tabs with Idx and Name"),
        ("Idx\tName\n1\twall\n2\tbuilding\n", r"no name for class 3; restore"),
        ("", r"its columns are \[\]; expected a table"),
    ],
)
def test_another_table_of_names_is_rejected(root: Path, wrong: str, message: str) -> None:
    (root / "objectInfo150.txt").write_text(wrong)
    with pytest.raises(DatasetError, match=f"objectInfo150.txt: .*{message}"):
        ADE20K().describe(root)


def test_a_root_one_folder_too_deep_is_rejected(root: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"images/training: the folder is missing; root must be ADEChallengeData2016"
    ):
        ADE20K().describe(root / "images")
