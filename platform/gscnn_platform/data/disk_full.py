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
"""A full disk, or a quota that is used up."""


class StorageError(ValueError):
    """A folder cannot be written; the message names it, the free space, what is unchanged, and what to do."""


def is_full(error: BaseException) -> bool:
    """Whether `error` came of a full disk; torch raises a RuntimeError of its own on top of the OSError."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in FULL:
            return True
        cause = cause.__cause__ or cause.__context__
    return False


class Failure(Config):
    """An OSError as data: a task that raised it would leave others writing, and Ray would wrap it."""

    number: int | None
    """Its errno."""
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
    """The disk that its parts are written to first."""
    total: int
    """Samples of the whole store."""
    samples: int = 0
    """Samples written, also to a part that could not be finished."""
    bytes: int = 0
    """Their size on disk."""

    @property
    def needed(self) -> int | None:
        """Bytes of the whole store, by the mean of what was written; None before the first sample."""
        return self.bytes * self.total // self.samples if self.samples else None


def storage_error(progress: Progress, failure: Failure) -> StorageError:
    """The error for a user, to be made when what was written of the new store is removed again."""
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
    """Turns an OSError of the block, which only writes, into a StorageError."""
    try:
        yield
    except OSError as error:
        raise storage_error(progress, Failure.of(error)) from error


def readable(count: int) -> str:
    """`12.3 MB`, `4.0 GB`."""
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"
