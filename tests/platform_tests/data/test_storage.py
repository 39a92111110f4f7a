"""A disk of 2 MB that is full, for real: a tmpfs."""

import errno
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gscnn_platform.config import EdgeConfig
from gscnn_platform.data.formats import FORMATS
from gscnn_platform.data.part_building import BuildJob, Chunk, PartReport, build_part
from gscnn_platform.data.precompute import PrecomputeConfig, precompute
from gscnn_platform.data.storage import Failure, Progress, StorageError, storage_error, writing
from gscnn_platform.data.store import open_store
from tests.layouts import write_camvid
from tests.stores import TINY_STREETS

FULL = Failure(number=errno.ENOSPC, reason="[Errno 28] No space left on device")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


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
        edges=EdgeConfig(),
        label_table=TINY_STREETS.describe(None).label_table,
    )
    return build_part(Chunk(split="train", start=0, stop=part_rows), job)


def test_a_part_for_which_there_is_no_space_is_reported_and_removed(disk: Path) -> None:
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


def test_the_error_names_folder_need_and_free_space_and_the_way_out(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "store", total=200, samples=8, bytes=8_000_000)
    message = str(storage_error(progress, FULL))
    for expected in (
        f"--out {tmp_path}/store: the disk or its quota was full after 8 of 200 samples",
        "No space left on device",
        "Needed: about 200.0 MB",
        f"free in {tmp_path}: ",
        "Make space and run the same command again, or name a folder on another disk",
        f"what was at {tmp_path}/store before is as it was",
    ):
        assert expected in message
    assert "Needed: unknown" in str(storage_error(Progress(tmp_path / "a/b", total=200), FULL))


def test_another_error_of_writing_is_named_as_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    denied = PermissionError(errno.EACCES, "Permission denied", "/data")
    with (
        pytest.raises(StorageError, match=r"--out .*store cannot be written: \[Errno 13\] Permission denied: '/data'"),
        writing(tmp_path / "half", Progress(tmp_path / "store", total=9)),
    ):
        raise denied
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_full_disk_leaves_the_old_store_and_the_same_command_works_after_space_is_made(
    tmp_path: Path, disk: Path
) -> None:
    root, out = write_camvid(tmp_path / "raw", frames=40), disk / "store"
    config = PrecomputeConfig(format=FORMATS["camvid"], root=str(root), out=str(out), part_rows=4)
    before = precompute(config).manifest
    image = open_store(out).split("train").read(3).image
    changed = config.model_copy(update={"edges": EdgeConfig(radius=3), "overwrite": True})
    size = sum(file.stat().st_size for file in out.rglob("*"))
    for free in (0, size // 10, size // 2, size - 20_000):
        filler = fill(disk, free)
        with pytest.raises(StorageError, match=f"{out}: the disk or its quota was full after .* of 80 samples"):
            precompute(changed)
        assert sorted(path.name for path in disk.iterdir()) == ["filler", "store"]
        assert open_store(out).manifest == before
        np.testing.assert_array_equal(open_store(out).split("train").read(3).image, image)
        filler.unlink()
    assert precompute(changed).built
    assert open_store(out).manifest.identity.edges.radius == 3
    assert [path.name for path in disk.iterdir()] == ["store"]
