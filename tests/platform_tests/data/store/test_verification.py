"""jobs.verify without its command line: each kind of damage is one fault, which names file, row and sample."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from gscnn_platform.config import VerifyConfig
from gscnn_platform.data.store import Store
from gscnn_platform.data.store.manifest import Part, StoreError, parse_manifest
from gscnn_platform.data.store.parts import ANCHORS, ARRAYS, SampleArrays, open_part, read_arrays, read_keys, write_part
from gscnn_platform.data.store.verification import Verification, describe, verify
from tests.stores import edit_manifest, flip_bit


@pytest.fixture
def copy(streets_store: Store, tmp_path: Path) -> Path:
    shutil.copytree(str(streets_store.path), tmp_path / "store")
    return tmp_path / "store"


def faults_of(store: Path) -> list[str]:
    return [str(fault) for fault in verify(VerifyConfig(store=str(store))).faults]


def rewrite(store: Path, **changes: object) -> Part:
    """Replaces arrays of the first training sample and updates the manifest's entry of the part; returns the part."""
    manifest, _ = parse_manifest(store)
    part = manifest.splits["train"].parts[0]
    with open_part(store / part.file) as opened:
        keys = read_keys(opened, range(part.rows))
        rows = [(name, read_arrays(opened, row, h, w, (*ARRAYS, ANCHORS))) for row, (name, h, w) in enumerate(keys)]
    for key, change in changes.items():
        rows[0][1][key] = change(rows[0][1][key].copy())  # type: ignore[operator]
    written = write_part(store / part.file, [(name, SampleArrays(**arrays)) for name, arrays in rows])
    assert written is not None
    edit_manifest(store, lambda content: content["splits"]["train"]["parts"].__setitem__(0, written.model_dump()))
    return written


def changed(value: int, where: tuple[int, int] = (0, 0)):
    def change(array: np.ndarray) -> np.ndarray:
        array[where] = value
        return array

    return change


def test_an_intact_store_has_no_fault(copy: Path, streets_store: Store) -> None:
    result = verify(VerifyConfig(store=str(copy)))
    assert result.faults == ()
    assert result.samples == sum(split.samples for split in streets_store.manifest.splits.values()) == 10
    assert describe(result).startswith(f"no fault in {copy}: 10 samples in 3 files, ")


def test_a_folder_without_a_store_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no such folder"):
        verify(VerifyConfig(store=str(tmp_path / "none")))


def test_a_flipped_bit_is_named_by_file_row_and_sample(copy: Path) -> None:
    part = parse_manifest(copy)[0].splits["train"].parts[0]
    flip_bit(copy / part.file, part.bytes // 3)
    whole, row = faults_of(copy)
    assert whole == f"{part.file}: differs from what was written: its sha256 is not the manifest's"
    assert row.startswith(f"{part.file}, row ") and "(sample " in row and "cannot be read" in row


def test_a_missing_file_and_one_that_nobody_lists_are_named(copy: Path) -> None:
    part = parse_manifest(copy)[0].splits["val"].parts[0]
    shutil.move(copy / part.file, copy / "val" / "stray.parquet")
    assert faults_of(copy) == [
        f"{part.file}: is missing, or is not a file",
        "val/stray.parquet: is not in the manifest, and is never read",
    ]


def test_a_label_that_is_no_class_is_named_with_its_pixels(copy: Path) -> None:
    part = rewrite(copy, label=changed(77))
    faults = faults_of(copy)
    assert faults[0].startswith(f"{part.file}, row 0 (sample ")
    assert faults[0].endswith("label holds 77 (1 px); classes are 0 to 8, void is 255")


def test_a_boundary_that_is_not_the_labels_is_found_by_the_pixel(copy: Path) -> None:
    rewrite(copy, boundary=lambda boundary: 1 - boundary)
    (fault,) = faults_of(copy)
    assert fault.endswith(f"boundary differs in {64 * 96} of {64 * 96} px from what the label gives")


def test_an_edge_prior_that_canny_cannot_give_is_named(copy: Path) -> None:
    rewrite(copy, gradient=changed(100))
    (fault,) = faults_of(copy)
    assert fault.endswith("gradient has 1 px that are neither 0 nor 255, the only values of canny")


def test_wrong_counts_of_pixels_name_both_numbers(copy: Path) -> None:
    split = parse_manifest(copy)[0].splits["train"]
    edit_manifest(copy, lambda content: content["splits"]["train"]["pixels"].__setitem__(2, split.pixels[2] + 5))
    assert faults_of(copy) == [
        f"manifest.json: split train: {split.pixels[2] + 5} pixels of class 2, the labels have {split.pixels[2]}"
    ]


def test_every_fault_is_a_line_and_the_last_line_counts_them(copy: Path) -> None:
    rewrite(copy, gradient=changed(100), label=changed(77))
    result: Verification = verify(VerifyConfig(store=str(copy)))
    *lines, summary = describe(result).splitlines()
    assert lines == [str(fault) for fault in result.faults]
    assert summary.startswith(f"{len(lines)} faults in {copy}: 10 samples in 3 files")
