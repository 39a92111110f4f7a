"""Each check names a planted fault, and none speaks on data without faults."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats.streets import CLASSES
from gscnn_platform.inspection.checks import Finding, findings
from gscnn_platform.inspection.sources import open_source
from gscnn_platform.inspection.survey import survey
from tests.faulty_data import (
    LACKING,
    LEAKED,
    LEAKED_FROM,
    SHIFT,
    SHIFTED,
    TURNED,
    WRONG,
    WRONG_COLOUR,
    WRONG_VALUE,
    write_faulty,
)
from tests.layouts import write_folder, write_image

ROAD, SKY = list(CLASSES).index("road"), list(CLASSES).index("sky")


def found_in(root: Path, max_samples: int | None = None) -> list[Finding]:
    return findings(survey(open_source(str(root)), max_samples))


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    return write_faulty(tmp_path / "data", faults=False)


def change_label(root: Path, split: str, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    file = root / "labels" / split / f"{name}.png"
    write_image(file, change(np.asarray(Image.open(file))))


def one_of(found: list[Finding], text: str) -> Finding:
    [finding] = [each for each in found if text in each.what]
    return finding


def test_nothing_is_found_in_data_without_faults(clean: Path) -> None:
    assert found_in(clean) == []


@pytest.mark.parametrize(
    ("in_colours", "named"), [(False, f"{WRONG_VALUE} (50 px)"), (True, "#{:02X}{:02X}{:02X}".format(*WRONG_COLOUR))]
)
def test_each_of_five_planted_faults_is_named_and_nothing_else(in_colours: bool, named: str, tmp_path: Path) -> None:
    faulty = found_in(write_faulty(tmp_path / "data", in_colours=in_colours))
    shifted = one_of(faulty, "shifted against the image")
    assert [(each.split, each.name) for each in shifted.samples] == [SHIFTED]
    assert shifted.samples[0].detail == f"{-SHIFT[1]} px left, {SHIFT[0]} px down"
    leaked = one_of(faulty, "is in split train as well")
    assert [(each.split, each.name) for each in leaked.samples] == [LEAKED]
    assert leaked.samples[0].detail == f"the same picture as {'/'.join(LEAKED_FROM)}"
    assert f"no label of split val has class {LACKING}" in one_of(faulty, "no score on val").what
    wrong = one_of(faulty, named)
    assert [(each.split, each.name) for each in wrong.samples] == [WRONG]
    turned = one_of(faulty, "rotated upright by its EXIF orientation, its label is not")
    assert [(each.split, each.name) for each in turned.samples] == [TURNED]
    assert [each.level for each in faulty] == ["error", "error", "error", "warning", "warning"]


def test_a_split_that_is_shifted_as_a_whole_is_one_finding(clean: Path) -> None:
    for file in sorted((clean / "labels/train").iterdir()):
        change_label(clean, "train", file.stem, lambda label: np.roll(label, -4, 1))
    finding = one_of(found_in(clean), "of their images' edges")
    assert finding.what == "the labels of split train lie 4 px left of their images' edges, on average"


def test_a_class_that_is_rare_or_uneven_is_noted(clean: Path) -> None:
    def without_cars(label: np.ndarray) -> np.ndarray:
        return np.where(label == list(CLASSES).index("car"), np.uint8(ROAD), label)

    for file in sorted((clean / "labels/train").iterdir()):
        change_label(clean, "train", file.stem, without_cars)

    def with_one_car(label: np.ndarray) -> np.ndarray:
        label = label.copy()
        label[60:68, 60:68] = list(CLASSES).index("car")
        return label

    change_label(clean, "train", "00000", with_one_car)
    share = 64 / sum(
        np.count_nonzero(np.asarray(Image.open(file)) != IGNORE_INDEX) for file in (clean / "labels/train").iterdir()
    )
    found = found_in(clean)
    assert one_of(found, "less than 0.1%").what.endswith(f"of split train is car ({share:.3%})")
    assert f"car ({share:.2%} and " in one_of(found, "unlike shares").what
    assert {each.level for each in found} == {"note"}


def test_a_class_that_no_training_label_has_is_a_warning(clean: Path) -> None:
    for file in sorted((clean / "labels/train").iterdir()):
        change_label(clean, "train", file.stem, lambda label: np.where(label == SKY, np.uint8(ROAD), label))
    assert one_of(found_in(clean), "no label of split train has class sky").level == "warning"


def test_void_flat_and_single_class_samples_are_listed(clean: Path) -> None:
    change_label(clean, "train", "00000", lambda label: np.full_like(label, ROAD))
    change_label(clean, "train", "00001", lambda label: np.full_like(label, IGNORE_INDEX))

    def upper_void(label: np.ndarray) -> np.ndarray:
        label = label.copy()
        label[: len(label) * 3 // 4] = IGNORE_INDEX
        return label

    change_label(clean, "train", "00002", upper_void)
    write_image(clean / "images/train/00004.png", np.full((128, 192, 3), (90, 90, 92), np.uint8))
    found = found_in(clean)
    assert [str(each) for each in one_of(found, "no boundary").samples] == ["train/00000: only road"]
    assert [str(each) for each in one_of(found, "entirely void").samples] == ["train/00001: all void"]
    assert [each.name for each in one_of(found, "mostly void").samples] == ["00002"]
    assert [each.name for each in one_of(found, "one colour").samples] == ["00004"]


def test_a_split_of_much_void_is_a_warning(clean: Path) -> None:
    for file in sorted((clean / "labels/val").iterdir()):
        change_label(clean, "val", file.stem, lambda label: np.where(label == ROAD, np.uint8(IGNORE_INDEX), label))
    assert one_of(found_in(clean), "of the pixels of split val are void").level == "warning"


def test_images_of_another_size_and_repeated_images_are_named(clean: Path) -> None:
    for part in ("images", "labels"):
        for file in sorted((clean / part / "val").iterdir()):
            small = Image.open(file).resize((96, 64), Image.Resampling.NEAREST)
            small.save(file)
        (clean / part / "train" / "zz.png").write_bytes((clean / part / "train" / "00005.png").read_bytes())
    found = found_in(clean)
    assert one_of(found, "96 pixels wide (median), those of train 192").level == "warning"
    assert one_of(found, "images have 2 sizes: 192x128 (13), 96x64 (6)").level == "note"
    assert str(one_of(found, "repeats another one").samples[0]) == "train/zz: the same pixels as 00005"


def test_neighbouring_frames_in_two_splits_are_a_note(clean: Path) -> None:
    image = np.asarray(Image.open(clean / "images/train/00002.png"))
    write_image(clean / "images/val/00002.png", np.clip(np.roll(image, 2, 1) * 1.02 + 2, 0, 255).astype(np.uint8))
    finding = one_of(found_in(clean), "as neighbouring frames of a video do")
    assert (finding.level, [str(each) for each in finding.samples]) == ("note", ["val/00002: like train/00002"])


def test_missing_files_of_one_kind_are_one_finding(clean: Path) -> None:
    (clean / "labels/train/00000.png").unlink()
    (clean / "labels/train/00001.png").unlink()
    [finding] = found_in(clean)
    assert finding.what.startswith("2 samples cannot be used: ")
    assert "the file is missing" in finding.what
    assert len(finding.samples) == 2
    assert str(finding).splitlines()[-1] == "    -> fix these files, or build the store with --on-bad-sample skip"


def test_notes_of_missing_splits_and_unread_samples_are_those_of_the_store(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", splits=("train",), frames=4)
    texts = [finding.what for finding in found_in(tmp_path / "data", max_samples=2)]
    assert any(text.startswith("there is no split val") for text in texts)
    assert "2 samples were not read, because of --max-samples" in texts
