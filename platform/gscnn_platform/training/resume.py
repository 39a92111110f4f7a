"""Finds the run of a command: a new one, or one that was stopped or crashed. Knows nothing of Ray.

A run's folder holds record.json (its config, its data, its MLflow run and how it ended) and alive.json, which the
driver touches while it runs. A rerun command finds its run by them, whatever stopped it.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Final, Literal

import psutil
from pyarrow.fs import FileSelector, FileType
from pydantic import ValidationError

from gscnn_platform.config import EXECUTION, Config, ExperimentConfig, flatten
from gscnn_platform.data.disk_full import StorageError
from gscnn_platform.names import check_experiment, check_name
from gscnn_platform.paths import as_path, filesystem_of, remove_if_empty, write_whole
from gscnn_platform.remote_errors import naming

RECORD: Final = "record.json"
ALIVE: Final = "alive.json"
SWEEP_RECORD: Final = "sweep.json"
"""A sweep's counterpart of record.json."""
BEAT_SECONDS: Final = 5.0
DEAD_SECONDS: Final = 20.0
"""Seconds without a sign of life after which a driver on another host counts as dead; on this host its process id is
checked."""

State = Literal["running", "stopped", "failed", "finished"]


LEFTOVERS: Final = {ALIVE, f".{ALIVE}.partial", f".{RECORD}.partial", f".{SWEEP_RECORD}.partial", "tracking"}
"""Files that a killed start leaves in a run's folder; the next start reuses them."""


class ResumeError(ValueError):
    """The named run cannot be resumed with these settings."""


class RunRecord(Config):
    """The record of a run, for other processes."""

    name: str
    config: ExperimentConfig
    fingerprint: str
    """Fingerprint of the store."""
    tracking_uri: str
    run_id: str
    """MLflow's."""
    state: State


def choose_run(
    config: ExperimentConfig, storage: str, fingerprint: str, is_trial: bool = False
) -> tuple[str, RunRecord | None]:
    """Name of the run, and its record if it is to be resumed.

    With `run_name` it is that run; without, the newest unfinished run of the same settings and data in `storage`, else
    a new one, named after the recipe and the time. A sweep answers for its trials: their settings may change on the
    way, and they may be finished.

    Raises:
        NamingError: the name of the run or of the recipe cannot be a folder's.
        ResumeError: the named run is finished, still running, of other settings or data, or its folder is no run's.
    """
    check_names(config)
    if config.run_name is None:
        found = _unfinished_like(config, storage, fingerprint) if config.resume else None
        return (found.name, found) if found else (f"{config.name}-{datetime.now():%Y%m%d-%H%M%S}", None)
    name = config.run_name
    folder = f"{storage}/{name}"
    record = read_record(folder)
    if is_trial:
        return name, record
    if record is None:
        check_free(folder, name)
        return name, None
    if not config.resume or record.state == "finished":
        raise ResumeError(
            f"--run-name {name!r} is already used in {storage} by a run that is {record.state}: choose another, or "
            "omit it"
        )
    wrong = _differences(record, config, fingerprint)
    if wrong:
        raise ResumeError(
            f"--run-name {name!r} is a run of other settings: {'; '.join(wrong)}. Pass the same values to resume it, "
            "or another --run-name to start a new run"
        )
    if is_driven(folder):
        raise ResumeError(f"--run-name {name!r} is running: {_owner_of(folder)}; stop it first, or choose another name")
    return name, record


def check_names(config: ExperimentConfig) -> None:
    """Raises NamingError if a name that becomes a folder or an MLflow experiment cannot."""
    check_name(config.name, "--name")
    check_experiment(config.tracking.experiment, "--tracking.experiment")
    if config.run_name is not None:
        check_name(config.run_name, "--run-name")


def check_free(folder: str, name: str) -> None:
    """Refuses a folder without a record that has more in it than a failed or killed start leaves.

    Raises:
        ResumeError: it has something of its own, or another start is under way in it.
    """
    place = as_path(folder)
    if not place.exists():
        return
    # An object store lists a folder that has become empty as a file within it, without a name.
    there = {path.name for path in place.iterdir()} - {""} if place.is_dir() else {place.name}
    records = sorted(there & {RECORD, SWEEP_RECORD})
    if records:
        raise ResumeError(
            f"--run-name {name!r}: {folder}/{records[0]} is damaged, of another kind or of another version: choose "
            "another name, or omit it"
        )
    if there - LEFTOVERS:
        raise ResumeError(
            f"--run-name {name!r}: {folder} exists and is not a run, {sorted(there - LEFTOVERS)[0]} is in it: choose "
            "another name, or omit it"
        )
    if is_driven(folder):
        raise ResumeError(f"--run-name {name!r} is running: {_owner_of(folder)}; stop it first, or choose another name")


def write_record(folder: str, record: RunRecord) -> None:
    """Replaces the record at once: a reader sees the old one or the new one."""
    write_json(folder, RECORD, record.model_dump(mode="json"))


def read_record(folder: str) -> RunRecord | None:
    """The record of a run's folder; None if there is none that this code reads."""
    try:
        return RunRecord.model_validate(read_json(folder, RECORD))
    except (FileNotFoundError, ValidationError, ValueError):
        return None


def tracked_as(folder: str) -> tuple[str, str] | None:
    """Tracking URI and MLflow run id of a run's or a sweep's folder; None of any other."""
    for name in (RECORD, SWEEP_RECORD):
        try:
            record = read_json(folder, name)
            return record["tracking_uri"], record["run_id"]
        except (FileNotFoundError, ValueError, KeyError):
            continue
    return None


@contextmanager
def usable(storage: str) -> Iterator[None]:
    """Turns an OSError of the block, which looks for runs or begins one, into a StorageError."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"--storage {storage} cannot be used: {error}") from error


@contextmanager
def alive(folder: str) -> Iterator[None]:
    """Says, while open, that this process drives the run; a folder that has got nothing else by then is removed."""
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "began": psutil.Process().create_time()}
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            # A full disk must not end the signs of life.
            with suppress(OSError):
                write_json(folder, ALIVE, {**owner, "at": time.time()})

    with usable(folder.rpartition("/")[0]):
        write_json(folder, ALIVE, {**owner, "at": time.time()})
    thread = threading.Thread(target=beat, name="alive", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        # Where the storage does not answer, silence tells.
        with suppress(OSError):
            (as_path(folder) / ALIVE).unlink()
            remove_if_empty(folder)


def _unfinished_like(config: ExperimentConfig, storage: str, fingerprint: str) -> RunRecord | None:
    """The newest run in `storage` that crashed or was stopped, with the same settings and data."""
    for name in sorted(folders_in(storage, f"{config.name}-"), reverse=True):
        folder = f"{storage}/{name}"
        record = read_record(folder)
        if record is None or record.state == "finished" or _differences(record, config, fingerprint):
            continue
        if not is_driven(folder):
            return record
    return None


def _differences(record: RunRecord, config: ExperimentConfig, fingerprint: str) -> list[str]:
    """A message for each setting that differs from the run's."""
    theirs, ours = (_identity(each) for each in (record.config, config))
    found = [f"{key} was {theirs[key]}, is {ours[key]}" for key in ours if theirs[key] != ours[key]]
    if record.fingerprint != fingerprint:
        found.append(f"the store's fingerprint was {record.fingerprint}, is {fingerprint}")
    return found


def _identity(config: ExperimentConfig) -> dict[str, Any]:
    return {key: value for key, value in flatten(config.model_dump()).items() if key not in EXECUTION}


def is_driven(folder: str) -> bool:
    """Whether a run's or a sweep's driver still runs; for another host, after waiting for a sign of life."""
    while True:
        try:
            owner = read_json(folder, ALIVE)
        except (FileNotFoundError, ValueError):
            return False
        if owner["host"] == socket.gethostname():
            return _lives(owner["pid"], owner["began"])
        silence = time.time() - owner["at"]
        if silence < 0 or silence > DEAD_SECONDS:
            return False
        before = owner["at"]
        time.sleep(2 * BEAT_SECONDS)
        try:
            if read_json(folder, ALIVE)["at"] != before:
                return True
        except (FileNotFoundError, ValueError):
            return False


def _lives(pid: int, began: float) -> bool:
    """Whether this process of this host runs; one that was killed and that nobody waits for, as in a container whose
    first process is no init, keeps its number and does not."""
    try:
        process = psutil.Process(pid)
        return process.create_time() == began and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _owner_of(folder: str) -> str:
    try:
        owner = read_json(folder, ALIVE)
    except (FileNotFoundError, ValueError):
        return "it has just ended"
    return f"process {owner['pid']} on {owner['host']}"


def folders_in(storage: str, prefix: str) -> list[str]:
    """Names of the folders in `storage`, a path or URI, that start with `prefix`."""
    filesystem, root = filesystem_of(storage)
    with naming(storage):
        entries = filesystem.get_file_info(FileSelector(root, allow_not_found=True))
    return [e.base_name for e in entries if e.type == FileType.Directory and e.base_name.startswith(prefix)]


def read_json(folder: str, name: str) -> dict[str, Any]:
    """Raises FileNotFoundError, and ValueError where it is no JSON."""
    return json.loads((as_path(folder) / name).read_bytes())


def write_json(folder: str, name: str, content: dict[str, Any]) -> None:
    """Replaces the file at once: a reader sees the old one or the new one."""
    place = as_path(folder)
    place.mkdir(parents=True, exist_ok=True)
    write_whole(place / name, json.dumps(content, indent=1).encode())
