"""Finds the run or sweep that a command starts or resumes.

A rerun command finds its run by record.json and alive.json in the run's folder, however the run ended.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from gscnn_platform.config import ExperimentConfig
from gscnn_platform.names import check_experiment, check_name
from gscnn_platform.runs.alive import is_driven, owner_of
from gscnn_platform.runs.checkpoint import INITIAL
from gscnn_platform.runs.folder import ALIVE, INIT_REPORT, OUTBOX, RunFolder, runs_in
from gscnn_platform.runs.record import RECORD, SWEEP_RECORD, Record, ResumeError, RunRecord, settings_of

WRITTEN: Final = (ALIVE, RECORD, SWEEP_RECORD, INIT_REPORT, INITIAL)
LEFTOVERS: Final = {ALIVE, INIT_REPORT, INITIAL, OUTBOX, *(f".{name}.partial" for name in WRITTEN)}
"""Files that a killed start leaves in a run's folder; the next start reuses them."""

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Wanted(Generic[R]):
    """The run or sweep that a command describes."""

    kind: type[R]
    run_name: str | None
    """None: the newest unfinished run or sweep with the same settings and data, else a new one."""
    prefix: str
    """Prefix of a new name, before the time."""
    resume: bool
    settings: Mapping[str, Any]
    fingerprint: str
    """Fingerprint of the store."""

    def differences(self, record: R) -> list[str]:
        """Returns a message for each setting that differs from the record's."""
        theirs, ours = record.settings, self.settings
        found = [f"{key} was {theirs.get(key)}, is {ours[key]}" for key in ours if theirs.get(key) != ours[key]]
        if record.fingerprint != self.fingerprint:
            found.append(f"the store's fingerprint was {record.fingerprint}, is {self.fingerprint}")
        return found


def wanted_run(config: ExperimentConfig, fingerprint: str) -> Wanted[RunRecord]:
    """Returns the run that a config describes, on data with this fingerprint.

    Raises:
        NamingError: the name of the run or of the recipe cannot be used for a folder.
    """
    check_names(config)
    return Wanted(RunRecord, config.run_name, f"{config.name}-", config.resume, settings_of(config), fingerprint)


def choose_run(wanted: Wanted[R], storage: str, is_trial: bool = False) -> tuple[RunFolder, R | None]:
    """Returns the folder of the run or sweep, and its record if it is resumed.

    With `run_name`, that run is chosen; without it, the newest unfinished run in `storage` with the same settings and
    data, else a new one. A trial's run is not checked: a sweep may change its settings, and it may be finished.

    Raises:
        ResumeError, or the ERROR of the kind of record: the named run is finished, still running, has other settings or
            data, or its folder does not belong to a run.
    """
    name = wanted.run_name
    if name is None:
        found = _unfinished_like(wanted, storage) if wanted.resume else None
        return found or (RunFolder.of(storage, f"{wanted.prefix}{datetime.now():%Y%m%d-%H%M%S}"), None)
    folder, kind = RunFolder.of(storage, name), wanted.kind
    record = folder.read(kind)
    if is_trial:
        return folder, record
    if record is None:
        check_free(folder)
        return folder, None
    if not wanted.resume or record.state == "finished":
        raise kind.ERROR(f"--run-name {name!r} {kind.USED.format(storage=storage, state=record.state)}")
    wrong = wanted.differences(record)
    if wrong:
        raise kind.ERROR(
            f"--run-name {name!r} is a {kind.NOUN} of other settings: {'; '.join(wrong)}. Pass the same values to "
            f"resume it, or another --run-name to start a new {kind.NOUN}"
        )
    if is_driven(folder):
        raise kind.ERROR(f"--run-name {name!r} {kind.RUNNING.format(owner=owner_of(folder))}")
    return folder, record


def _unfinished_like(wanted: Wanted[R], storage: str) -> tuple[RunFolder, R] | None:
    """Returns the newest run in `storage` that crashed or was stopped and has the same settings and data."""
    for folder in reversed(runs_in(storage, wanted.prefix)):
        record = folder.read(wanted.kind)
        if record is None or record.state == "finished" or wanted.differences(record):
            continue
        if not is_driven(folder):
            return folder, record
    return None


def check_names(config: ExperimentConfig) -> None:
    """Raises NamingError if a name cannot be used for a folder or an MLflow experiment."""
    check_name(config.name, "--name")
    check_experiment(config.tracking.experiment, "--tracking.experiment")
    if config.run_name is not None:
        check_name(config.run_name, "--run-name")


def check_free(folder: RunFolder) -> None:
    """Checks that a folder without a record holds no more than what a failed or killed start leaves.

    Raises:
        ResumeError: the folder has other content, or another process is starting a run in it.
    """
    place, name = folder.path, folder.name
    if not place.exists():
        return
    # An object store lists an emptied folder as a file without a name in it.
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
        raise ResumeError(f"--run-name {name!r} {RunRecord.RUNNING.format(owner=owner_of(folder))}")
