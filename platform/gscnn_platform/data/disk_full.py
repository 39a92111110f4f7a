"""Disk-full handling, and folders that cannot be written."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gscnn_platform.config import Config
from gscnn_platform.paths import AnyPath, RemotePath

FULL: Final = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a full disk and of an exceeded quota."""

PROGRAM_BYTES: Final = 8_000_000
"""Bytes of an exported program besides its weights, with a margin: 1.0 MB for `streets`, 1.7 MB for `cityscapes`."""


class StorageError(ValueError):
    """A folder cannot be written; the message names the folder, the free space, what is unchanged and what to do."""


def is_full(error: BaseException) -> bool:
    """Whether `error` was caused by a full disk; torch wraps the OSError in a RuntimeError."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in FULL:
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def has_room_for_program(folder: Path, weights: int) -> bool:
    """Returns whether the disk has room for an exported program with `weights` bytes of weights.

    Ask before torch.export.save writes to a path: on a full disk, its writer aborts the whole process.
    """
    return shutil.disk_usage(folder).free > weights + PROGRAM_BYTES


class Failure(Config):
    """An OSError as data: if a task raised it, other tasks would keep writing, and Ray would wrap it."""

    number: int | None
    """The error's errno."""
    reason: str

    @classmethod
    def of(cls, error: OSError) -> "Failure":
        return cls(number=error.errno, reason=str(error))


@dataclass
class Progress:
    """The progress of a build, from which its total size is estimated."""

    out: AnyPath
    """Output folder."""
    disk: Path
    """The disk that the parts are written to first."""
    total: int
    """Number of samples of the whole store."""
    samples: int = 0
    """Number of samples written, including those in an unfinished part."""
    bytes: int = 0
    """Their size on disk."""

    @property
    def needed(self) -> int | None:
        """Estimated bytes of the whole store, from the mean size per sample so far; None before the first sample."""
        return self.bytes * self.total // self.samples if self.samples else None


def storage_error(progress: Progress, failure: Failure) -> StorageError:
    """The error for users; create it after the partial output has been removed, which frees its space."""
    out = progress.out
    left = "No part of this build is read" if isinstance(out, RemotePath) else "No partial output is left"
    unharmed = f"{left}, and what was at {out} before is unchanged."
    if failure.number not in FULL:
        return StorageError(f"--out {out} cannot be written: {failure.reason}. {unharmed}")
    free = readable(shutil.disk_usage(progress.disk).free)
    needed = "unknown" if progress.needed is None else f"about {readable(progress.needed)}"
    return StorageError(
        f"--out {out}: the disk or its quota was full after {progress.samples} of {progress.total} samples "
        f"({failure.reason}). Needed: {needed}; free in {progress.disk}: {free}. "
        f"{unharmed} Free space and rerun the command, or name a folder on another disk"
    )


@contextmanager
def writing(progress: Progress) -> Iterator[None]:
    """Turns an OSError raised in the block into a StorageError; the block must only write."""
    try:
        yield
    except OSError as error:
        raise storage_error(progress, Failure.of(error)) from error


def readable(count: int) -> str:
    """A size in bytes as text: `12.3 MB`, `4.0 GB`."""
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"
