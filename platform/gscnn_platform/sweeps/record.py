"""Finds the sweep of a command: a new one, or one that was stopped or crashed."""

from datetime import datetime
from typing import Any, Final

from gscnn_platform import tracking
from gscnn_platform.config import Config, OnDeleted, execution_fields, flatten
from gscnn_platform.names import check_name
from gscnn_platform.sweeps.config import SweepConfig, SweepError
from gscnn_platform.sweeps.space import SearchSpace
from gscnn_platform.training import resume
from gscnn_platform.training.resume import RunRecord, State

SWEEP_EXECUTION: Final = frozenset(execution_fields(SweepConfig))
"""Fields that may differ when a sweep resumes."""


class SweepRecord(Config):
    """The record of a sweep, for other processes."""

    name: str
    config: SweepConfig
    space: SearchSpace
    fingerprint: str
    """Fingerprint of the store."""
    tracking_uri: str
    run_id: str
    """Id of the parent run in MLflow."""
    began: float
    """Seconds since 1970."""
    state: State


def choose_sweep(
    config: SweepConfig, space: SearchSpace, storage: str, fingerprint: str
) -> tuple[str, SweepRecord | None]:
    """Name of the sweep, and its record if it is to be resumed: the named sweep, or the newest of the same settings.

    Raises:
        NamingError: a name cannot be used.
        ResumeError: the named folder does not belong to a sweep.
        SweepError: the named sweep is finished, still running, or of other settings or data.
    """
    recipe = config.recipe
    resume.check_names(recipe)
    if config.register_as is not None:
        check_name(config.register_as, "--register-as")
    prefix = f"sweep-{recipe.name}-"
    if recipe.run_name is None:
        for name in sorted(resume.folders_in(storage, prefix), reverse=True) if recipe.resume else ():
            record = read_record(f"{storage}/{name}")
            if record is None or record.state == "finished" or _differences(record, config, space, fingerprint):
                continue
            if not resume.is_driven(f"{storage}/{name}"):
                return name, record
        return f"{prefix}{datetime.now():%Y%m%d-%H%M%S}", None
    name = recipe.run_name
    record = read_record(f"{storage}/{name}")
    if record is None:
        resume.check_free(f"{storage}/{name}", name)
        return name, None
    if not recipe.resume or record.state == "finished":
        raise SweepError(f"--run-name {name!r} is already used by a sweep that is {record.state}: choose another")
    wrong = _differences(record, config, space, fingerprint)
    if wrong:
        raise SweepError(
            f"--run-name {name!r} is a sweep of other settings: {'; '.join(wrong)}. Pass the same values to resume it, "
            "or another --run-name to start a new sweep"
        )
    if resume.is_driven(f"{storage}/{name}"):
        raise SweepError(f"--run-name {name!r} is running: stop it first, or choose another name")
    return name, record


def needs_new_run(record: SweepRecord, folder: str, on_deleted: OnDeleted) -> bool:
    """Whether a sweep that resumes needs a new parent run, since its own was deleted in MLflow; where asked to restores
    that and the runs of the trials that have not finished.

    Raises:
        DeletedError: the parent or such a trial was deleted, and `on_deleted` is "error".
    """
    uri = record.tracking_uri
    if tracking.fate_of(uri, record.run_id) == "unknown":
        return False
    is_deleted = tracking.needs_new_run(uri, record.run_id, on_deleted)
    for trial in trials_of(folder):
        if trial.state != "finished":
            tracking.needs_new_run(uri, trial.run_id, on_deleted)
    return is_deleted


def trials_of(folder: str) -> list[RunRecord]:
    """Records of the trials that have begun."""
    records = (resume.read_record(f"{folder}/{name}") for name in sorted(resume.folders_in(folder, "trial-")))
    return [record for record in records if record is not None]


def write_record(folder: str, record: SweepRecord) -> None:
    """Replaces the record at once."""
    resume.write_json(folder, resume.SWEEP_RECORD, record.model_dump(mode="json"))


def read_record(folder: str) -> SweepRecord | None:
    """The record of a sweep's folder; None if there is none that this code can read."""
    try:
        return SweepRecord.model_validate(resume.read_json(folder, resume.SWEEP_RECORD))
    except (FileNotFoundError, ValueError):
        return None


def _differences(record: SweepRecord, config: SweepConfig, space: SearchSpace, fingerprint: str) -> list[str]:
    theirs, ours = (_identity(*each) for each in ((record.config, record.space), (config, space)))
    found = [f"{key} was {theirs.get(key)}, is {ours.get(key)}" for key in ours if theirs.get(key) != ours.get(key)]
    if record.fingerprint != fingerprint:
        found.append(f"the store's fingerprint was {record.fingerprint}, is {fingerprint}")
    return found


def _identity(config: SweepConfig, space: SearchSpace) -> dict[str, Any]:
    fields = {key: value for key, value in flatten(config.model_dump()).items() if key not in SWEEP_EXECUTION}
    searched = {"space.domains": dict(space.domains), "space.variants": {k: dict(v) for k, v in space.variants.items()}}
    return {**fields, **searched}
