"""A disk of 2 MB that is full, for real: a tmpfs."""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gscnn_platform.config import EdgeConfig
from gscnn_platform.data.disk_full import Failure, Progress, StorageError, storage_error, writing
from gscnn_platform.data.store.part_building import BuildJob, Chunk, PartReport, build_part
from tests.stores import TINY_STREETS

FULL = Failure(number=errno.ENOSPC, reason="[Errno 28] No space left on device")


@pytest.fixture
def disk(small_disk: Callable[[int], Path]) -> Path:
    return small_disk(2)


def fill(disk: Path, free: int) -> Path:
    """A file that leaves `free` bytes."""
    filler = disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(disk).free - free))
    return filler


def build_train(folder: Path, part_rows: int = 6) -> PartReport:
    (folder / "train").mkdir(parents=True, exist_ok=True)
    job = BuildJob(
        samples={"train": TINY_STREETS.samples(None, "train")},
        folder=folder,
        prefix="part-",
        edges=EdgeConfig(),
        label_table=TINY_STREETS.describe(None).label_table,
    )
    return build_part(Chunk(split="train", start=0, stop=part_rows), job)


def test_a_part_that_does_not_fit_on_the_disk_is_reported_and_removed(disk: Path) -> None:
    whole = build_train(disk / "whole")
    shutil.rmtree(disk / "whole")
    for share in (0.0, 0.3, 0.9):
        filler = fill(disk, int(share * whole.bytes))
        report = build_train(disk / "full")
        assert report.failure is not None and report.failure.number == errno.ENOSPC
        assert (report.part, list((disk / "full").rglob("*.parquet"))) == (None, [])
        assert report.samples <= round(share * 6)
        filler.unlink()
    assert build_train(disk / "full").failure is None


def test_the_error_names_folder_needed_and_free_space_and_says_what_to_do(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "store", tmp_path, total=200, samples=8, bytes=8_000_000)
    message = str(storage_error(progress, FULL))
    for expected in (
        f"--out {tmp_path}/store: the disk or its quota was full after 8 of 200 samples",
        "No space left on device",
        "Needed: about 200.0 MB",
        f"free in {tmp_path}: ",
        "Free space and rerun the command, or name a folder on another disk",
        f"what was at {tmp_path}/store before is unchanged",
    ):
        assert expected in message
    assert "Needed: unknown" in str(storage_error(Progress(tmp_path / "a/b", tmp_path, total=200), FULL))


def test_other_write_errors_are_reported_with_their_reason(tmp_path: Path) -> None:
    denied = PermissionError(errno.EACCES, "Permission denied", "/data")
    with (
        pytest.raises(StorageError, match=r"--out .*store cannot be written: \[Errno 13\] Permission denied: '/data'"),
        writing(Progress(tmp_path / "store", tmp_path, total=9)),
    ):
        raise denied
