"""The record of a sweep, which lets a rerun command find a sweep that was stopped or crashed."""

from collections.abc import Mapping
from typing import Any, Final

from gscnn_platform import tracking
from gscnn_platform.config import OnDeleted, execution_fields, flatten
from gscnn_platform.names import check_name
from gscnn_platform.runs.folder import RunFolder, runs_in
from gscnn_platform.runs.record import SWEEP_RECORD, Record, RunRecord
from gscnn_platform.runs.resume import Wanted, check_names
from gscnn_platform.sweeps.config import SweepConfig, SweepError
from gscnn_platform.sweeps.space import SearchSpace

SWEEP_EXECUTION: Final = frozenset(execution_fields(SweepConfig))
"""Fields that may differ when a sweep resumes."""


class SweepRecord(Record):
    """The record of a sweep; its MLflow run is the parent of the trials' runs."""

    FILE = SWEEP_RECORD
    NOUN = "sweep"
    USED = "is already used by a sweep that is {state}: choose another"
    RUNNING = "is running: stop it first, or choose another name"
    ERROR = SweepError

    config: SweepConfig
    space: SearchSpace
    began: float
    """Seconds since 1970."""

    @property
    def settings(self) -> Mapping[str, Any]:
        return _settings_of(self.config, self.space)


def wanted_sweep(config: SweepConfig, space: SearchSpace, fingerprint: str) -> Wanted[SweepRecord]:
    """Returns the sweep that a config describes, on a search space and data with this fingerprint.

    Raises:
        NamingError: a name cannot be used.
    """
    recipe = config.recipe
    check_names(recipe)
    if config.register_as is not None:
        check_name(config.register_as, "--register-as")
    settings, prefix = _settings_of(config, space), f"sweep-{recipe.name}-"
    return Wanted(SweepRecord, recipe.run_name, prefix, recipe.resume, settings, fingerprint)


def needs_new_run(record: SweepRecord, folder: RunFolder, on_deleted: OnDeleted) -> bool:
    """Returns whether a resumed sweep needs a new parent run because its own was deleted in MLflow.

    If requested, restores the parent run, and the deleted runs of unfinished trials.

    Raises:
        DeletedError: the parent run or the run of an unfinished trial was deleted, and `on_deleted` is "error".
    """
    uri = record.tracking_uri
    if tracking.fate_of(uri, record.run_id) == "unknown":
        return False
    is_deleted = tracking.needs_new_run(uri, record.run_id, on_deleted)
    for trial in trials_of(folder):
        if trial.state != "finished":
            tracking.needs_new_run(uri, trial.run_id, on_deleted)
    return is_deleted


def trials_of(folder: RunFolder) -> list[RunRecord]:
    """Returns the records of the trials that have started."""
    records = (trial.read(RunRecord) for trial in runs_in(folder.location, "trial-"))
    return [record for record in records if record is not None]


def _settings_of(config: SweepConfig, space: SearchSpace) -> dict[str, Any]:
    fields = {key: value for key, value in flatten(config.model_dump()).items() if key not in SWEEP_EXECUTION}
    searched = {"space.domains": dict(space.domains), "space.variants": {k: dict(v) for k, v in space.variants.items()}}
    return {**fields, **searched}
