"""The journal of one part of an outbox, locked and written by one process."""

import fcntl
import json
import os
import shutil
import threading
import uuid
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from gscnn_platform.runs.ref import RunRef
from gscnn_platform.tracking.outbox.errors import HeldError, TrackingError
from gscnn_platform.tracking.outbox.parts import (
    HEADER,
    JOURNAL,
    Entry,
    complete_bytes,
    delivered_bytes,
    lines,
    read_json,
    run_of,
    write_json,
    write_run,
)

RESERVE: Final = 2**18
"""Bytes set aside to record the end of the run when the disk is full."""


class Journal:
    """One part of an outbox, held exclusively by this process until `close`.

    Args:
        folder: of the part; created if it is missing.
        run: of the entries; None: the run that the folder names.

    Raises:
        HeldError: another process holds the part.
        TrackingError: the part belongs to another run, or names no run.
    """

    def __init__(self, folder: Path, run: RunRef | None = None) -> None:
        self.folder = folder
        (folder / "files").mkdir(parents=True, exist_ok=True)
        self._lock = _locked(folder)
        try:
            self.run = _agreed(folder, run)
        except TrackingError:
            os.close(self._lock)
            raise
        _held.add(self)
        self._mutex = threading.Lock()
        self._unwritten = b""
        self.fault: OSError | None = None
        """Why entries wait in memory instead of on disk, for example because the disk is full."""
        self._file = os.open(folder / JOURNAL, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        self.size = complete_bytes(folder)
        """Bytes of complete lines."""
        # An incomplete last line is left by a crash in the middle of a write.
        os.ftruncate(self._file, self.size)
        _sync_path(folder)
        self._synced = self.size
        self.delivered = delivered_bytes(folder)
        if self.delivered == 0:
            # A wrong count beyond the journal's end would become valid as the journal grows.
            (folder / "delivered.json").unlink(missing_ok=True)
        self._tidy()

    def _tidy(self) -> None:
        """Removes files without an entry, which a crash left, and sets space aside for the run's end."""
        wanted = {Path(entry["kept"]).parts[1] for entry, _ in self.pending() if entry is not None and "kept" in entry}
        for place in (self.folder / "files").iterdir():
            if place.name not in wanted:
                shutil.rmtree(place)
        reserve = self.folder / "reserve"
        if not reserve.exists():
            with suppress(OSError):
                reserve.write_bytes(b"\0" * RESERVE)

    def use_reserve(self) -> None:
        """Writes the entries that wait in memory into the space that was set aside for a full disk."""
        (self.folder / "reserve").unlink(missing_ok=True)
        self.sync()

    def append(self, *entries: Entry) -> None:
        """Writes entries in one piece. They survive a crash of this process, and after `sync` also one of the machine.

        If the disk is full, they wait in memory and are written with the next ones: see `fault`.
        """
        written = "".join(json.dumps(entry, separators=(",", ":")) + "\n" for entry in entries).encode()
        with self._mutex:
            self._unwritten += written
            self._write()

    def _write(self) -> None:
        try:
            written = os.write(self._file, self._unwritten)
            if written < len(self._unwritten):
                raise OSError(f"{written} of {len(self._unwritten)} bytes written")
        except OSError as error:
            os.ftruncate(self._file, self.size)
            self.fault = error
            return
        self.size += written
        self._unwritten, self.fault = b"", None

    def sync(self) -> None:
        """Flushes appended entries to the disk."""
        with self._mutex:
            if self._unwritten:
                self._write()
            size = self.size
        if size > self._synced:
            os.fdatasync(self._file)
            self._synced = size

    def pending(self) -> Iterator[tuple[Entry | None, int]]:
        """Yields undelivered entries, each with the position after it; None instead of an entry for a damaged line."""
        yield from lines(self.folder, self.delivered, self.size)

    def mark_delivered(self, position: int) -> None:
        """Marks the journal as delivered up to `position`, which `pending` yielded."""
        self.delivered = position
        write_json(self.folder / "delivered.json", {"bytes": position})

    def keep(self, source: Path | bytes, name: str) -> str:
        """Keeps a file or a folder until it is delivered, as a hard link if the file system allows it.

        Returns:
            Its path relative to the part's folder.
        """
        place = self.folder / "files" / uuid.uuid4().hex / name
        place.parent.mkdir()
        if isinstance(source, bytes):
            place.write_bytes(source)
        elif source.is_dir():
            shutil.copytree(source, place, copy_function=_link_or_copy)
        else:
            _link_or_copy(source, place)
        for path in (place, *place.rglob("*")):
            _sync_path(path)
        return str(place.relative_to(self.folder))

    def drop(self, kept: str) -> None:
        """Removes a file or folder that `keep` kept."""
        shutil.rmtree((self.folder / kept).parent, ignore_errors=True)

    def refuse(self, entry: Entry | None, reason: str) -> None:
        """Sets aside an entry that the server will never accept, so that later entries can be delivered."""
        line = json.dumps({"reason": reason, "entry": entry}) + "\n"
        with (self.folder / "refused.jsonl").open("a+", encoding="utf-8") as file:
            file.seek(0)
            if line not in file.readlines():
                file.write(line)

    def close(self) -> None:
        """Releases the part, after a last attempt to write the entries that wait in memory."""
        if self in _held:
            self.sync()
            _held.discard(self)
            os.close(self._file)
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            os.close(self._lock)


_held: "weakref.WeakSet[Journal]" = weakref.WeakSet()


def _forget() -> None:
    # Data loading processes are forked from a run's worker; if one outlived it, it would keep the outbox locked.
    for journal in _held:
        os.close(journal._lock)
    _held.clear()


os.register_at_fork(after_in_child=_forget)


def open_part(run: RunRef) -> Journal:
    """Returns the first part of a run's outbox that no other process holds.

    On a network disk, the lock of a lost node persists for a while, and the run then resumes in the next part.

    Raises:
        TrackingError: the outbox belongs to another run.
    """
    outbox, number = run.outbox.absolute(), 0
    while True:
        try:
            return Journal(outbox / str(number), run)
        except HeldError:
            number += 1


def _locked(folder: Path) -> int:
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if isinstance(error, BlockingIOError):
            raise HeldError(
                f"{folder} is in use by a run or by another jobs.sync-tracking, which delivers it"
            ) from None
        raise TrackingError(f"{folder} is on a file system without locks ({error}): choose another") from error
    return lock


def _agreed(folder: Path, run: RunRef | None) -> RunRef:
    if run is None:
        return run_of(folder)
    known = read_json(folder / HEADER)
    if known is not None and known["run_id"] != run.run_id:
        raise TrackingError(f"{folder} holds metrics of MLflow run {known['run_id']}, not of {run.run_id}")
    if known is None or known["tracking_uri"] != run.tracking_uri:
        write_run(folder, run)
    return run


def _link_or_copy(source: str | Path, place: str | Path) -> None:
    try:
        os.link(Path(source).resolve(), place)
    except OSError:
        shutil.copy(source, place)


def _sync_path(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
