"""Where a build writes its parts, and how they become the store atomically, on a file system or an object store."""

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
    """Parts and manifest are written to a folder beside `out`, which then takes its name.

    Raises:
        StorageError: `out` is a folder that cannot be replaced.
        InputError: `out` is a link to nothing.
    """

    def __init__(self, out: Path) -> None:
        _check_replaceable(out)
        # Behind a link, so that the parts are written to the disk that it leads to, and the link stays.
        self.out = out.resolve()
        self.folder = self.out.with_name(f".{self.out.name}.partial-{uuid.uuid4().hex[:8]}")
        """For the parts, in a folder for each split."""
        self.prefix = "part-"
        """Prefix of this build's file names."""
        self.disk = next(path for path in self.out.parents if path.exists())
        """The disk that tasks write to first."""

    def prepare(self, splits: Collection[str]) -> None:
        """Raises OSError."""
        for split in splits:
            (self.folder / split).mkdir(parents=True)

    def abort(self) -> bool:
        """Whether the remaining tasks end at once if one cannot write: they have no folder to write to."""
        shutil.rmtree(self.folder, ignore_errors=True)
        return True

    def publish(self, manifest: Manifest) -> None:
        """Makes the parts the store at `out`. Raises OSError; `out` is then unchanged."""
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
    """Parts are written to `out` itself, under names of this build; they are the store once the manifest names them.

    An object store cannot rename a folder, and replaces one file at once.
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
        # What is left of others than the manifest names is never read.
        with suppress(OSError):
            self._remove(lambda where: where in replaced or self._is_ours(where))

    def discard(self) -> None:
        self._remove(self._is_ours)

    def _is_ours(self, where: str) -> bool:
        return where.rpartition("/")[2].startswith(self.prefix)

    def _remove(self, superfluous: Callable[[str], bool]) -> None:
        """Removes parts that the current manifest does not list: a write of it that seemed to fail may have arrived."""
        named = self._parts_there()
        for file in self.folder.files():
            where = str(below(file, self.folder))
            if where not in named and superfluous(where):
                file.unlink(missing_ok=True)

    def _parts_there(self) -> set[str]:
        """Parts of the store at `out`; empty if there is no readable store."""
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
    """Refuses a folder that cannot be written, before all of the raw data is read.

    Raises:
        StorageError: it cannot be written or replaced, or does not answer.
        InputError: it is a link to nothing.
        MachineError: it is a folder of this machine that cannot be written.
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
    """Refuses a folder that is there and whose name no other folder can take, as a volume of a container."""
    if not followed(out).is_dir():
        return
    place = out.resolve()
    if place.is_mount() or not machine.can_write(place.parent):
        why = "is a mount point" if place.is_mount() else f"lies in {place.parent}, which cannot be written"
        raise StorageError(f"--out {out} {why}, and a store takes its folder's place: name a folder in it, {out}/store")
