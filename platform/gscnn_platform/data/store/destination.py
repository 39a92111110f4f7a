"""Writes a build's parts to a file system or an object store, and turns them into the store atomically."""

import shutil
import tempfile
import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from gscnn_platform import cluster, machine
from gscnn_platform.data.disk_full import StorageError
from gscnn_platform.data.image_files import followed
from gscnn_platform.data.store.manifest import MANIFEST, Manifest, StoreError, read_manifest, write_manifest
from gscnn_platform.paths import AnyPath, RemotePath, below, write_whole
from gscnn_platform.remote_errors import patiently

PROBE: Final = ".writable"


class LocalDestination:
    """Writes parts and manifest to a folder beside `out`, which is then renamed to `out`.

    Raises:
        StorageError: `out` is a folder that cannot be replaced.
        InputError: `out` is a broken link.
    """

    def __init__(self, out: Path) -> None:
        _check_replaceable(out)
        # Resolved, so that the parts are written to the disk that a link leads to, and the link stays.
        self.out = out.resolve()
        self.folder = self.out.with_name(f".{self.out.name}.partial-{uuid.uuid4().hex[:8]}")
        """Folder for the parts, with a folder for each split."""
        self.prefix = "part-"
        """Prefix of this build's file names."""
        self.disk = next(path for path in self.out.parents if path.exists())
        """The disk that tasks write to first."""

    def prepare(self, splits: Collection[str]) -> None:
        """Creates the folders of the splits. Raises OSError."""
        for split in splits:
            (self.folder / split).mkdir(parents=True)

    def abort(self) -> bool:
        """Removes the parts after one task could not write; True because this ends the remaining tasks at once."""
        shutil.rmtree(self.folder, ignore_errors=True)
        return True

    def publish(self, manifest: Manifest) -> None:
        """Turns the parts into the store at `out`. Raises OSError; `out` is then unchanged."""
        parts = {part.file for split in manifest.splits.values() for part in split.parts}
        for file in self.folder.glob("*/*.parquet"):
            # A task that Ray had to run twice leaves the first attempt's file behind.
            if str(below(file, self.folder)) not in parts:
                file.unlink()
        write_manifest(self.folder, manifest)
        old = self.out.with_name(f".{self.out.name}.old-{uuid.uuid4().hex[:8]}")
        if self.out.exists():
            self.out.rename(old)
        try:
            self.folder.rename(self.out)
        except OSError:
            if old.exists():
                old.rename(self.out)
            raise
        shutil.rmtree(old, ignore_errors=True)

    def discard(self) -> None:
        """Removes everything that this build has written, unless it was published."""
        shutil.rmtree(self.folder, ignore_errors=True)


class RemoteDestination:
    """Writes parts to `out` itself, under names of this build; they become the store once the manifest lists them.

    An object store cannot rename a folder, but it replaces a single file atomically.
    """

    def __init__(self, out: RemotePath) -> None:
        self.folder = out
        self.prefix = f"part-{uuid.uuid4().hex[:8]}-"
        self.disk = Path(tempfile.gettempdir())

    def prepare(self, splits: Collection[str]) -> None:
        for split in splits:
            (self.folder / split).mkdir()

    def abort(self) -> bool:
        return False

    def publish(self, manifest: Manifest) -> None:
        replaced = self._parts_there()
        patiently(lambda: write_manifest(self.folder, manifest))
        # Parts that remain are never read, because the manifest does not list them.
        with suppress(OSError):
            self._remove(lambda where: where in replaced or self._is_ours(where))

    def discard(self) -> None:
        self._remove(self._is_ours)

    def _is_ours(self, where: str) -> bool:
        return where.rpartition("/")[2].startswith(self.prefix)

    def _remove(self, superfluous: Callable[[str], bool]) -> None:
        """Removes superfluous parts that the current manifest does not list; it is read again, because a write of it
        that reported an error may have arrived."""
        named = self._parts_there()
        for file in self.folder.files():
            where = str(below(file, self.folder))
            if where not in named and superfluous(where):
                file.unlink(missing_ok=True)

    def _parts_there(self) -> set[str]:
        """Parts that the manifest at `out` lists; empty if there is no readable store."""
        if not (self.folder / MANIFEST).is_file():
            return set()
        try:
            before = read_manifest(self.folder)
        except StoreError:
            return set()
        return {part.file for split in before.splits.values() for part in split.parts}


Destination = LocalDestination | RemoteDestination


def destination(out: AnyPath) -> Destination:
    return RemoteDestination(out) if isinstance(out, RemotePath) else LocalDestination(out)


def check_writable(out: AnyPath) -> None:
    """Checks that the output folder can be written, before all raw data is read.

    Raises:
        StorageError: it cannot be written or replaced, or does not answer.
        InputError: it is a broken link.
        MachineError: it is a local folder that cannot be written.
    """
    if not isinstance(out, RemotePath):
        if not (out / MANIFEST).is_file():
            cluster.check_can_write(str(out), "--out")
            _check_replaceable(out)
        return
    try:
        if not (out / MANIFEST).is_file():
            write_whole(out / PROBE, b"")
            (out / PROBE).unlink()
    except OSError as error:
        raise StorageError(f"--out {out} cannot be written: {error}") from error


def _check_replaceable(out: Path) -> None:
    """Raises StorageError if the folder exists and cannot be replaced by another one, such as a container's volume."""
    if not followed(out).is_dir():
        return
    place = out.resolve()
    if place.is_mount() or not machine.can_write(place.parent):
        why = "is a mount point" if place.is_mount() else f"lies in {place.parent}, which cannot be written"
        raise StorageError(f"--out {out} {why}, so a store cannot replace it: name a folder in it, {out}/store")
