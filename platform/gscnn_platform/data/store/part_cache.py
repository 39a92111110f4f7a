"""Copies of a remote store's parts on a node's own disk: shared by all jobs on the node, verified, limited in size.

A copy is named after the sha256 of its part. Training reads all parts of a split equally often, so evicting one part of
a store for another gains nothing: parts that do not fit are read remotely, row by row, and only parts of other stores
are evicted, least recently used first.
"""

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tqdm import tqdm

from gscnn_platform import machine
from gscnn_platform.config import CacheConfig
from gscnn_platform.data.disk_full import is_full, readable
from gscnn_platform.data.store.manifest import Part, StoreError
from gscnn_platform.data.store.parts import footer_digest
from gscnn_platform.paths import AnyPath, RemotePath
from gscnn_platform.remote_errors import patiently

STREAMS: Final = 8
"""Parts fetched concurrently; Arrow has threads for as many requests."""
CHUNK: Final = 8 << 20
LEFT_FREE: Final = 0.05
"""Share of the disk that stays free."""


def fetch(cache: CacheConfig, parts: Sequence[tuple[RemotePath, Part]], in_use: Collection[str]) -> list[AnyPath]:
    """For each part its copy on this node, fetched if needed, or the remote part if the copy does not fit.

    One process of a node fetches at a time, with a progress bar; the others then find the copies.

    Args:
        cache: folder and size limit.
        parts: parts of one split.
        in_use: sha256 of all parts of the store.

    Raises:
        StoreError: a part's sha256 differs from the manifest.
        OSError: the store does not answer.
    """
    if not cache.gigabytes:
        return [place for place, _ in parts]
    folder = _folder(cache)
    with _locked(folder):
        room = _Room(folder, int(cache.gigabytes * 1e9), in_use)
        kept = [(place, part, folder / f"{part.sha256}.parquet") for place, part in parts if room.take(part)]
        _fetch_all([item for item in kept if not _is_whole(item[2], item[1])])
    copies = {place: copy for place, _, copy in kept if copy.is_file()}
    far = sum(part.bytes for place, part in parts if place not in copies)
    if far:
        _say(f"{readable(far)} do not fit in {folder} and are read from the store row by row")
    return [copies.get(place, place) for place, _ in parts]


def _fetch_all(missing: Sequence[tuple[RemotePath, Part, Path]]) -> None:
    if not missing:
        return
    size = sum(part.bytes for _, part, _ in missing)
    with (
        tqdm(total=size, unit="B", unit_scale=True, desc=f"fetch {missing[0][0].uri.rpartition('/')[0]}") as bar,
        ThreadPoolExecutor(STREAMS) as pool,
    ):
        fetches = [pool.submit(patiently, lambda item=item: _download(*item)) for item in missing]
        try:
            for (_, part, _), fetched in zip(missing, fetches, strict=True):
                fetched.result()
                bar.update(part.bytes)
        except OSError as error:
            if not is_full(error):
                raise
            _say(f"the disk of {missing[0][2].parent} is full: the rest of the store is read row by row")
        finally:
            pool.shutdown(cancel_futures=True)


def _download(place: RemotePath, part: Part, copy: Path) -> None:
    digest = hashlib.sha256()
    partial = copy.with_suffix(".partial")
    try:
        with place.filesystem.open_input_stream(place.path) as source, partial.open("wb") as target:
            while chunk := source.read(CHUNK):
                digest.update(chunk)
                target.write(chunk)
        if digest.hexdigest() != part.sha256:
            raise StoreError(f"{place} differs from what was written: its sha256 is not the manifest's")
        partial.rename(copy)
    finally:
        partial.unlink(missing_ok=True)


class _Room:
    """The space that the size limit and the disk leave for a store's parts."""

    def __init__(self, folder: Path, bound: int, in_use: Collection[str]) -> None:
        there = {file: file.stat() for file in folder.glob("*.parquet")}
        others = sorted((file for file in there if file.stem not in in_use), key=lambda file: there[file].st_mtime)
        self.mine = {file.stem for file in there if file.stem in in_use}
        self.others = [(file, there[file].st_size) for file in others]
        self.bound = bound - sum(stat.st_size for stat in there.values())
        disk = shutil.disk_usage(folder)
        self.free = disk.free - int(LEFT_FREE * disk.total)

    def take(self, part: Part) -> bool:
        """Whether there is space for the part; evicts parts of other stores if needed."""
        if part.sha256 in self.mine:
            return True
        while part.bytes > min(self.bound, self.free) and self.others:
            file, size = self.others.pop(0)
            file.unlink(missing_ok=True)
            self.bound += size
            self.free += size
        if part.bytes > min(self.bound, self.free):
            return False
        self.bound -= part.bytes
        self.free -= part.bytes
        return True


def _is_whole(copy: Path, part: Part) -> bool:
    """Whether the copy exists with the size and footer of its part; each page has a checksum of its own."""
    try:
        with copy.open("rb") as opened:
            whole = os.fstat(opened.fileno()).st_size == part.bytes and footer_digest(opened) == part.footer
    except FileNotFoundError:
        return False
    if whole:
        os.utime(copy)  # The time of its last use, for the eviction.
    return whole


def _folder(cache: CacheConfig) -> Path:
    folder = machine.expanded(cache.folder) if cache.folder else machine.cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"data.cache.folder {folder} cannot be created: {error.strerror}; choose another with "
            "--data.cache.folder, or disable the cache with --data.cache.gigabytes 0"
        ) from error
    return folder


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lets one process of this machine in at a time; the lock ends with its process, however that ends."""
    with (folder / ".lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in folder.glob("*.partial"):
            left.unlink(missing_ok=True)
        yield


def _say(text: str) -> None:
    sys.stderr.write(f"store: {text}\n")
