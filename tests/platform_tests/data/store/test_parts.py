"""The Parquet files of a store: what is written is what is read, and damage is found by size, footer and page."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from gscnn_platform.data.class_uniform import anchors_of
from gscnn_platform.data.store.manifest import Part, StoreError
from gscnn_platform.data.store.parts import (
    ANCHORS,
    ARRAYS,
    READ_ERRORS,
    SampleArrays,
    is_inside,
    open_part,
    quick_fault,
    read_arrays,
    read_classes,
    read_keys,
    write_part,
)
from tests.stores import flip_bit


def sample(height: int, width: int, seed: int) -> SampleArrays:
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.integers(0, 256, shape, dtype=np.uint8)  # noqa: E731
    image, label, gradient, boundary = draw(height, width, 3), *(draw(height, width) for _ in range(3))
    return SampleArrays(image, label, gradient, boundary, anchors_of(label))


ALL = (*ARRAYS, ANCHORS)
SAMPLES = [("a", sample(5, 7, 0)), ("b/ü", sample(64, 3, 1)), ("c", sample(1, 1, 2))]


@pytest.fixture
def part(tmp_path: Path) -> Part:
    (tmp_path / "train").mkdir()
    written = write_part(tmp_path / "train" / "0.parquet", SAMPLES)
    assert written is not None
    return written


def test_every_array_of_every_size_is_read_as_it_was_written(part: Part, tmp_path: Path) -> None:
    with open_part(tmp_path / part.file) as opened:
        keys = read_keys(opened, range(3))
        assert keys == [("a", 5, 7), ("b/ü", 64, 3), ("c", 1, 1)]
        for row, (_, arrays) in enumerate(SAMPLES):
            read = read_arrays(opened, row, *keys[row][1:], ALL)
            for key in ALL:
                np.testing.assert_array_equal(read[key], getattr(arrays, key))


def test_the_classes_of_each_row_are_those_of_its_label_without_void(part: Part, tmp_path: Path) -> None:
    with open_part(tmp_path / part.file) as opened:
        classes = read_classes(opened)
    assert classes == [sorted(set(arrays.label.ravel().tolist()) - {255}) for _, arrays in SAMPLES]


def test_the_manifests_entry_is_that_of_the_file(part: Part, tmp_path: Path) -> None:
    content = (tmp_path / part.file).read_bytes()
    length = int.from_bytes(content[-8:-4], "little")
    assert part == Part(
        file="train/0.parquet",
        rows=3,
        bytes=len(content),
        footer=hashlib.sha256(content[-8 - length :]).hexdigest(),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def test_a_part_without_samples_leaves_no_file(tmp_path: Path) -> None:
    assert write_part(tmp_path / "0.parquet", []) is None
    assert list(tmp_path.iterdir()) == []


def test_two_parts_of_the_same_samples_have_different_footers(part: Part, tmp_path: Path) -> None:
    other = write_part(tmp_path / "train" / "1.parquet", SAMPLES)
    assert other is not None and other.footer != part.footer


def test_only_the_columns_that_are_asked_for_are_read(part: Part, tmp_path: Path) -> None:
    with open_part(tmp_path / part.file) as opened:
        assert list(read_arrays(opened, 0, 5, 7, ["label"])) == ["label"]


def test_an_array_of_another_size_than_its_row_says_is_an_error(part: Part, tmp_path: Path) -> None:
    with open_part(tmp_path / part.file) as opened, pytest.raises(StoreError, match="35 bytes, 5 x 8 pixels need 40"):
        read_arrays(opened, 0, 5, 8, ["label"])


@pytest.mark.parametrize("position", [100, 300, 1000])
def test_a_flipped_bit_in_a_page_is_found_when_the_row_is_read(part: Part, tmp_path: Path, position: int) -> None:
    flip_bit(tmp_path / part.file, position)
    assert quick_fault(tmp_path, part) is None
    with open_part(tmp_path / part.file) as opened, pytest.raises(READ_ERRORS):
        for row, (name, height, width) in enumerate(read_keys(opened, range(3))):
            assert name == SAMPLES[row][0]
            read_arrays(opened, row, height, width, ALL)


def test_a_fault_of_the_file_is_found_without_reading_a_row(part: Part, tmp_path: Path) -> None:
    file = tmp_path / part.file
    content = file.read_bytes()
    assert quick_fault(tmp_path, part) is None
    file.write_bytes(content[:-1])
    assert quick_fault(tmp_path, part) == f"has {part.bytes - 1} bytes, the manifest says {part.bytes}"
    file.write_bytes(content)
    flip_bit(file, -20)
    assert quick_fault(tmp_path, part) == "has another footer than the manifest says"
    file.unlink()
    assert quick_fault(tmp_path, part) == "is missing, or is not a file"
    other = tmp_path.parent / f"{tmp_path.name}-outside.parquet"
    other.write_bytes(content)
    file.symlink_to(other)
    assert quick_fault(tmp_path, part) == "leads out of the store by a link"
    other.unlink()


def test_a_file_with_other_columns_is_not_a_part(part: Part, tmp_path: Path) -> None:
    file = tmp_path / part.file
    table = pq.read_table(file).drop_columns("boundary")
    pq.write_table(table, file, row_group_size=1)
    with file.open("rb") as opened:
        content = opened.read()
    length = int.from_bytes(content[-8:-4], "little")
    footer = hashlib.sha256(content[-8 - length :]).hexdigest()
    changed = part.model_copy(update={"bytes": len(content), "footer": footer})
    assert quick_fault(tmp_path, changed) == "does not have the columns of a store"


def test_a_circle_of_links_is_not_inside_a_store(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert not is_inside(tmp_path, tmp_path / "a" / "c")
