"""User name, home, CPU cores, free memory and printable output on this machine: the one place that reads them.

In a container, a user id without an entry in /etc/passwd has no name and no home, and the standard library raises an
error for both.
"""

import ctypes
import getpass
import io
import os
import pwd
import sys
import tempfile
from contextlib import suppress
from math import ceil
from pathlib import Path
from typing import Final

CGROUPS: Final = Path("/sys/fs/cgroup")

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt (malloc.h)."""


class MachineError(ValueError):
    """This machine lacks something that the job needs: the message names the setting that provides it."""


def user_name() -> str:
    """Returns the user's name, or `uid-4242` if the user id has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"


def home() -> Path:
    """Returns HOME, else the home in /etc/passwd, else a folder of this user in the folder for temporary files."""
    named = os.environ.get("HOME")
    if named:
        return Path(named)
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return temporary_folder()


def temporary_folder() -> Path:
    """Returns `/tmp/gscnn-NAME`, a folder for temporary files of this user only; created if it is missing.

    Raises:
        MachineError: it belongs to another user, or cannot be created.
    """
    folder = Path(tempfile.gettempdir()) / f"gscnn-{user_name()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        owner = folder.stat().st_uid
    except OSError as error:
        says = f"{folder} cannot be created: {error.strerror}"
        raise MachineError(f"{says}; export TMPDIR=FOLDER, one that exists") from error
    if owner != os.getuid():
        raise MachineError(f"{folder} belongs to {name_of(owner)}; export TMPDIR=FOLDER, one that you own")
    return folder


def lasting_folder() -> Path:
    """Returns `~/gscnn-runs`, which holds a run's local files if its storage is elsewhere; created if it is missing.

    Raises:
        MachineError: home is not writable.
    """
    folder = home() / "gscnn-runs"
    if not can_write(folder):
        raise MachineError(
            f"{folder} cannot be written, and it must hold what is not yet delivered to the tracking server; "
            "export HOME=FOLDER, one that is writable and persistent"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def cache_folder() -> Path:
    """Returns `~/.cache/gscnn`, or a folder in XDG_CACHE_HOME, or a temporary one; does not create it."""
    named = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(named) if named else home() / ".cache") / "gscnn"
    return folder if named or can_write(folder) else temporary_folder() / "cache"


def can_write(folder: Path) -> bool:
    """Returns whether files can be created in a folder, or the folder itself in its nearest existing parent."""
    there = next((parent for parent in (folder, *folder.parents) if parent.exists()), Path("/"))
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def name_of(uid: int) -> str:
    """Returns the name of a user id, or `uid-4242`."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid-{uid}"


def expanded(path: str) -> Path:
    """Returns the path, with `~` and `~NAME` replaced.

    Raises:
        MachineError: there is no user with this name.
    """
    if path == "~" or path.startswith("~/"):
        return home() / path[2:]
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise MachineError(f"{path}: there is no user {Path(path).parts[0][1:]!r}; give the whole path") from error


def cores(cgroups: Path = CGROUPS) -> int:
    """Returns the CPU cores that this process may use, at least 1, from its affinity and its container's limit.

    Args:
        cgroups: where the kernel shows the container's limits (cpu.max of version 2, cpu.cfs_* of version 1).
    """
    allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    limit = _limit(cgroups)
    return allowed if limit is None else max(1, min(allowed, ceil(limit)))


def _limit(cgroups: Path) -> float | None:
    """Returns the container's CPU limit in cores; None without a limit."""
    try:
        quota, period = (cgroups / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        try:
            quota = (cgroups / "cpu/cpu.cfs_quota_us").read_text(encoding="ascii").strip()
            period = (cgroups / "cpu/cpu.cfs_period_us").read_text(encoding="ascii").strip()
        except OSError:
            return None
    # Without a limit: "max" in version 2, -1 in version 1.
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def free_memory(cgroups: Path = CGROUPS) -> int:
    """Returns the bytes that processes can still get, from this machine or from what its container's limit leaves.

    Args:
        cgroups: where the kernel shows the container's limits (memory.max of version 2, memory.limit_in_bytes of
            version 1).
    """
    import psutil  # Few jobs need it.

    free = psutil.virtual_memory().available
    for limit, used, statistics, reclaimable in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
    ):
        try:
            most, now = ((cgroups / name).read_text(encoding="ascii").strip() for name in (limit, used))
            counts = dict(line.split() for line in (cgroups / statistics).read_text(encoding="ascii").splitlines())
        except (OSError, ValueError):
            continue
        if most.isdigit():  # Without a limit: "max" in version 2, a number beyond any memory in version 1.
            # Cached files count as used, and are given up first.
            free = min(free, max(0, int(most) - int(now) + int(counts.get(reclaimable, 0))))
    return free


def prepare_process() -> None:
    """Provides what this process lacks and libraries take for granted; call it before importing them.

    A user without a name gets one (USER), and one without a home gets a folder (HOME); if home is not writable,
    matplotlib keeps its files elsewhere (MPLCONFIGDIR). stdout writes characters that its encoding lacks as `\\xb7`, so
    that a job does not fail on a dot that it prints. If stdout or stderr is closed, its output is discarded.
    OpenMP's threads sleep while they wait for each other (OMP_WAIT_POLICY).
    """
    _open_streams()
    # Threads that spin take a core from the one that they wait for: beside another busy process `streets` then trains
    # at 0.1 images/s on 2 cores, instead of 5 (11 on quiet ones).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Without a temporary folder these are left out; whatever needs one reports it.
    with suppress(MachineError):
        if not os.environ.get("HOME"):
            os.environ["HOME"] = str(home())
        if "MPLCONFIGDIR" not in os.environ and not can_write(home() / ".config/matplotlib"):
            os.environ["MPLCONFIGDIR"] = str(temporary_folder() / "matplotlib")
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = user_name()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def keep_freed_memory() -> None:
    """Makes this process keep the memory that it frees for its next allocations; does nothing without glibc.

    Otherwise glibc returns a step's feature maps to the kernel, which clears every page again in the next step: 13% of
    the shape stream's CPU time on 4 images of 192x256 (benchmarks/shape_stream.py).
    """
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(MMAP_THRESHOLD, 2**30)
        mallopt(TRIM_THRESHOLD, 2**31 - 1)


def _open_streams() -> None:
    """Opens stdin, stdout and stderr if they are closed, as after `>&-`: any file could get their numbers."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # It gets the lowest free number, which is this one.
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)
