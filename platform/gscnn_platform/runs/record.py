"""The record of a run on disk: its config, its data, its MLflow run and how it ended."""

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
    """Base class of the records of runs and sweeps."""

    FILE: ClassVar[str]
    """File name in the folder."""
    NOUN: ClassVar[str]
    """`run` or `sweep`, for messages."""
    USED: ClassVar[str]
    """Message if the name is taken by a run or sweep that is not to be resumed."""
    RUNNING: ClassVar[str]
    """Message if the driver is still running."""
    ERROR: ClassVar[type[ValueError]]
    """Error class for a named run or sweep that cannot be resumed."""

    name: str
    fingerprint: str
    """Fingerprint of the store."""
    tracking_uri: str
    run_id: str
    """MLflow run id."""
    state: State

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """Dotted key -> value, of all settings that must be unchanged to resume."""


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
    """Returns dotted key -> value for all fields except those that only affect how a run is executed."""
    return {key: value for key, value in flatten(config.model_dump()).items() if key not in EXECUTION}
