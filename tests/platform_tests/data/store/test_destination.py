"""Where a build puts its store on a file system."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gscnn_platform import machine
from gscnn_platform.data.disk_full import StorageError
from gscnn_platform.data.image_files import InputError
from gscnn_platform.data.store import Store
from gscnn_platform.data.store.destination import LocalDestination, check_writable
from gscnn_platform.data.store.manifest import MANIFEST


def test_a_store_at_a_link_is_written_to_its_target_and_the_link_stays(tmp_path: Path, streets_store: Store) -> None:
    for folder in ("large/store", "home"):
        (tmp_path / folder).mkdir(parents=True)
    link = tmp_path / "home/store"
    link.symlink_to(tmp_path / "large/store")
    check_writable(link)
    place = LocalDestination(link)
    assert place.folder.parent == tmp_path / "large"
    place.prepare(["train"])
    place.publish(streets_store.manifest)
    assert link.readlink() == tmp_path / "large/store"
    assert (link / MANIFEST).is_file()
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["store"]
    assert [path.name for path in (tmp_path / "large").iterdir()] == ["store"]


def test_a_mounted_volume_is_rejected_before_anything_is_read_but_a_folder_in_it_works(
    small_disk: Callable[[int], Path],
) -> None:
    volume = small_disk(1)
    for refused in (check_writable, LocalDestination):
        with pytest.raises(StorageError, match=rf"--out {volume} is a mount point, .* name a folder in it, .*/store$"):
            refused(volume)
    check_writable(volume / "store")
    assert LocalDestination(volume / "store").folder.parent == volume


def test_a_folder_that_cannot_be_renamed_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "store").mkdir()
    monkeypatch.setattr(machine, "can_write", lambda folder: folder != tmp_path)
    with pytest.raises(StorageError, match=rf"store lies in {tmp_path}, which cannot be written, so a store cannot"):
        check_writable(tmp_path / "store")


def test_a_link_to_a_disk_that_is_not_mounted_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "store").symlink_to(tmp_path / "unmounted/store")
    with pytest.raises(InputError, match=r"store: a link to .*unmounted/store, which does not exist"):
        check_writable(tmp_path / "store")
    assert not (tmp_path / "unmounted").exists()
