"""Full disks: small real ones that are mounted for the test. `make faults`."""

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from gscnn_platform.config import EdgeConfig
from gscnn_platform.data.disk_full import StorageError
from gscnn_platform.data.formats import FORMATS
from gscnn_platform.data.precompute import PrecomputeConfig, precompute
from gscnn_platform.data.store import open_store
from tests.faults.driven import Driven
from tests.faults.table import note
from tests.layouts import write_camvid

pytestmark = pytest.mark.slow


def fill(disk: Path, free: int) -> Path:
    """Writes a file that leaves `free` bytes, or fewer if other processes write at the same time."""
    filler = disk / "filler"
    with suppress(OSError):
        filler.write_bytes(bytes(max(0, shutil.disk_usage(disk).free - free)))
    return filler


def test_checkpoint_on_a_full_disk(run: Driven, undisturbed: str, small_disk: Callable[[int], Path]) -> None:
    run.storage = small_disk(200)
    run.start()
    run.at_step(10)
    filler = fill(run.storage, free=10_000_000)
    assert run.end() == 1
    assert run.said(r"checkpoint step-\d+ cannot be written, the disk of .* is full: .* MB are left")
    assert run.said("free space, then rerun the command to resume from the last one")
    filler.unlink()
    seconds = run.resume_to_the_end()
    run.assert_as_if_nothing_had_happened(undisturbed)
    note("disk full at a checkpoint", "a small tmpfs, filled up", "steps since the last checkpoint", seconds)


@pytest.mark.usefixtures("ray_cluster")
def test_a_full_disk_leaves_the_old_store_and_the_same_command_works_after_space_is_made(
    tmp_path: Path, small_disk: Callable[[int], Path]
) -> None:
    disk = small_disk(2)
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
    began = time.monotonic()
    assert precompute(changed).built
    seconds = time.monotonic() - began
    assert open_store(out).manifest.identity.edges.radius == 3
    assert [path.name for path in disk.iterdir()] == ["store"]
    lost = "nothing: the old store is unchanged, and no partial output is left"
    note("disk full at precompute", "a small tmpfs, filled up at four places", lost, seconds)
