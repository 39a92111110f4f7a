"""Joining a cluster, or starting one on this machine."""

import logging
import os
import resource
import secrets
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import ray
from ray._common.utils import get_default_ray_temp_dir
from ray._private import auto_init_hook
from ray.exceptions import RayError

from gscnn_platform import machine
from gscnn_platform.activity import doing
from gscnn_platform.cluster.address import Named, check_answers, has_token, named_cluster
from gscnn_platform.cluster.errors import ClusterError
from gscnn_platform.cluster.places import PLATFORM_FOLDER, in_submitted_job
from gscnn_platform.cluster.worker_setup import set_up_worker
from gscnn_platform.interrupts import SIGNALS

LONGEST_SOCKET: Final = 103 if sys.platform == "darwin" else 107
"""Maximum length of a Unix socket's path, in bytes."""
SOCKET: Final = "ray/session_2026-11-26_01-18-55_533123_{}/sockets/plasma_store"
"""The longest socket name that Ray appends to RAY_TMPDIR; the last number is the process id."""
LEAST_FREE: Final = 50_000_000
"""Free bytes that sockets and logs need; on a full disk, Ray hangs at its start after a minute of dashboard output."""
FEWEST_FILES: Final = 1024
"""Minimum limit of open files for Ray's processes and a job; below it, Ray fails to start."""
STORE_WITHOUT_SHARED_MEMORY: Final = 1 << 30
"""Bytes of Ray's object store if there is no /dev/shm to take a share of."""
OF_OWN_CLUSTER: Final = {"RAY_worker_niceness": "0"}
"""Ray's default is 15, which leaves its workers hardly any CPU time beside another busy process."""
_WARNING: Final = ("_private.authentication.authentication_token_setup", "_private.services")
"""Ray's loggers that write messages at its start."""


def check() -> None:
    """Implements `gscnn_platform.cluster.check_can_connect`."""
    if ray.is_initialized():
        return
    named = named_cluster()
    if named is None:
        _check_machine()
        return
    with _quiet():
        check_answers(named)


def would_start() -> bool:
    """Implements `gscnn_platform.cluster.would_start`."""
    return not ray.is_initialized() and named_cluster() is None


_is_own = False
"""Whether this process has started the cluster that it uses."""


def is_own() -> bool:
    """Implements `gscnn_platform.cluster.is_own`."""
    return _is_own and ray.is_initialized()


def join_or_start(dashboard: bool) -> None:
    """Implements `gscnn_platform.cluster.connect`.

    Workers get the import path that they lack, so that local edits take effect without a reinstall, and their own
    cluster's address, so that they never query another cluster on the same machine.

    Raises:
        ClusterError: the named cluster does not answer or rejects this user, or none can be started here.
    """
    if ray.is_initialized():
        return
    named = named_cluster()
    what = "starting Ray" if named is None else f"joining the cluster at {named.address}"
    with _quiet(), doing(what):
        address = "local" if named is None else check_answers(named)
        arguments = _own_cluster(dashboard) if named is None else {}
        own = OF_OWN_CLUSTER if named is None else {}
        with _readable_errors(named), environment(own), _own_signals():
            ray.init(address, runtime_env=_runtime_env(), logging_level=logging.WARNING, **arguments)
    global _is_own
    _is_own = named is None
    # If a job ends while a thread still queries Ray, Ray would start another cluster for the query.
    auto_init_hook.enable_auto_connect = False


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keeps this process's signal handlers, because Ray replaces SIGTERM's. Processes that start in the block ignore a
    closed terminal, as Ray's already ignore Ctrl-C: a run that stops after a checkpoint needs them.
    """
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _runtime_env() -> dict[str, Any]:
    pythonpath = _missing_pythonpath()
    hook = f"{set_up_worker.__module__}.{set_up_worker.__name__}"
    return {"worker_process_setup_hook": hook, "env_vars": {"PYTHONPATH": pythonpath} if pythonpath else {}}


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables for the block, except those that the user has set."""
    added = {key: value for key, value in variables.items() if key not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            os.environ.pop(key, None)


def _own_cluster(dashboard: bool) -> dict[str, Any]:
    """Ray's options for a start on this machine."""
    folder = _check_machine()
    provide_token()
    arguments: dict[str, Any] = {"num_cpus": machine.cores(), "include_dashboard": dashboard}
    if not Path("/dev/shm").is_dir():
        # Ray reads the size of /dev/shm, and fails if there is none.
        arguments |= {"object_store_memory": STORE_WITHOUT_SHARED_MEMORY, "_plasma_directory": str(folder)}
    return arguments


def _check_machine() -> Path:
    """The folder of Ray's sockets and logs, if Ray can start on this machine.

    Raises:
        ClusterError: Ray's folder cannot be used, or too few files may be open.
    """
    folder = Path(get_default_ray_temp_dir())
    check_folder(folder)
    check_open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    return folder


def check_folder(folder: Path) -> None:
    """Rejects a folder that cannot hold Ray's sockets and logs.

    Raises:
        ClusterError: its path is relative or too long, its disk is full, or this user cannot write to it.
    """
    setting = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), "RAY_TMPDIR")
    if not folder.is_absolute():
        raise ClusterError(
            f"{setting} is {os.environ.get(setting)!r}, not an absolute path, and Ray's processes run in other "
            f"folders: unset it, or export {setting}=FOLDER, such as /tmp"
        )
    most = LONGEST_SOCKET - len("/" + SOCKET.format(os.getpid()))
    length = len(os.fsencode(folder.parent))
    if length > most:
        raise ClusterError(
            f"{setting} is {folder.parent}, a path of {length} bytes, which makes the names of Ray's sockets too long "
            f"for the system; export RAY_TMPDIR=FOLDER, a path of at most {most} bytes, such as /tmp"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror
    else:
        owner = machine.name_of(folder.stat().st_uid)
        free = shutil.disk_usage(folder).free
        reason = None if machine.can_write(folder) else f"it belongs to {owner}"
        if free < LEAST_FREE:
            reason = f"only {free / 1e6:.1f} MB of its disk are free, and Ray needs {LEAST_FREE / 1e6:.0f} MB"
    if reason:
        raise ClusterError(
            f"Ray cannot write {folder}, where it keeps sockets and logs ({reason}); "
            f"export RAY_TMPDIR=FOLDER, a folder of your own, such as /tmp/{machine.user_name()}"
        )


def check_open_files(most: int) -> None:
    """Raises a ClusterError if a process may open too few files for Ray to start; `most` is the hard limit."""
    if 0 <= most < FEWEST_FILES:
        raise ClusterError(
            f"this process may open {most} files, and Ray needs {FEWEST_FILES} or more: run `ulimit -n 8192` first, "
            "or raise the limit (nofile) of this user or container"
        )


def provide_token() -> None:
    """Sets a token for this process's own cluster if home is not writable: Ray would create one in ~/.ray."""
    asked = os.environ.get("RAY_AUTH_MODE", "token").lower() == "token"
    if not asked or has_token():
        return
    file = machine.home() / ".ray/auth_token"
    if not (os.access(file, os.W_OK) and file.is_file() if file.exists() else machine.can_write(file.parent)):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        has_token(anew=True)


@contextmanager
def _readable_errors(named: Named | None) -> Iterator[None]:
    """Turns what Ray raises when it cannot start or connect into a ClusterError."""
    try:
        yield
    except Exception as error:
        # For a node that does not start in time, Ray raises a plain Exception.
        if type(error) is not Exception and not isinstance(error, OSError | RuntimeError | RayError):
            raise
        said = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        if named is not None:
            raise ClusterError(
                f"the cluster at {named.address}, which {named.source} names, answers, but cannot be joined: {said}; "
                f"{named.way_out} to start one here"
            ) from error
        logs = Path(get_default_ray_temp_dir()) / "session_latest/logs"
        way_out = f"free cores, memory and space in {logs.parents[1]} (or set another folder in RAY_TMPDIR)"
        if isinstance(error, PermissionError):
            way_out = "give this user access to that file and the folders above it"
        raise ClusterError(
            f"Ray did not start on this machine: {said}\n{way_out}, then rerun the command; Ray's logs: {logs}"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Drops Ray's warnings about intended behaviour, and the log that it quotes if its dashboard fails."""
    expected = (
        "authentication is enabled",
        "The object store is using",  # A folder other than a small /dev/shm.
        "Error should be written to",
        "The last 20 lines of",
    )
    loggers = [logging.getLogger(f"ray.{name}") for name in _WARNING]

    def unexpected(record: logging.LogRecord) -> bool:
        return not any(text in record.getMessage() for text in expected)

    for logger in loggers:
        logger.addFilter(unexpected)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(unexpected)


def _missing_pythonpath() -> str | None:
    """The import path that workers need on PYTHONPATH, or None if they import the packages already.

    Ray raises an error if the job's runtime environment has the same key, so it is only set if it is missing.
    """
    if PLATFORM_FOLDER.name != "platform":
        return None
    known = [Path(path).resolve() for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if in_submitted_job():
        # Each worker's current folder is its own copy, so the relative path is right on every node.
        return None if PLATFORM_FOLDER in known else "platform"
    return os.pathsep.join([str(PLATFORM_FOLDER.parent), str(PLATFORM_FOLDER)])
