"""The record of a run, for other processes: its config, its data, its MLflow run and how it ended."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal

from gscnn_platform.config import EXECUTION, Config, ExperimentConfig, flatten

State = Literal["running", "stopped", "failed", "finished"]

RECORD: Final = "record.json"
SWEEP_RECORD: Final = "sweep.json"
"""A sweep's counterpart of record.json."""


class ResumeError(ValueError):
    """The named run cannot be resumed with these settings."""


class Record(Config):
    """What the records of runs and of sweeps have in common."""

    FILE: ClassVar[str]
    """Its name in the folder."""
    NOUN: ClassVar[str]
    """What it is a record of, for messages."""
    USED: ClassVar[str]
    """Message: the name is taken by one that is not to be resumed."""
    RUNNING: ClassVar[str]
    """Message: its driver still runs."""
    ERROR: ClassVar[type[ValueError]]
    """Raised where the named one cannot be resumed."""

    name: str
    fingerprint: str
    """Fingerprint of the store."""
    tracking_uri: str
    run_id: str
    """MLflow's."""
    state: State

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """Dotted key -> value, of all that must be the same to resume it."""


class RunRecord(Record):
    """The record of a run."""

    FILE = RECORD
    NOUN = "run"
    USED = "is already used in {storage} by a run that is {state}: choose another, or omit it"
    RUNNING = "is running: {owner}; stop it first, or choose another name"
    ERROR = ResumeError

    config: ExperimentConfig

    @property
    def settings(self) -> Mapping[str, Any]:
        return settings_of(self.config)


def settings_of(config: ExperimentConfig) -> dict[str, Any]:
    """Dotted key -> value, of all fields but those that say how a run is carried out."""
    return {key: value for key, value in flatten(config.model_dump()).items() if key not in EXECUTION}
