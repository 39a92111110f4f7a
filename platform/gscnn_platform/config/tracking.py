"""The config of a run's MLflow tracking."""

import re
from typing import Any, Final, Literal

from pydantic import field_validator

from gscnn.config import Execution
from gscnn_platform.config.base import Config

OnDeleted = Literal["error", "restore", "new"]

_PASSWORD: Final = re.compile(r"^(https?://).*@|^([^/]+://)[^@/]*:.*@")
"""A URI up to the end of its password, or of a user name that may be a token."""


def has_password(uri: str) -> bool:
    """Whether a URI contains a password, or a user name that may be a token."""
    return _PASSWORD.match(uri) is not None


class TrackingConfig(Config):
    """The config of a run's MLflow tracking."""

    uri: Execution[str | None] = None
    """MLflow tracking URI without user and password; None: MLFLOW_TRACKING_URI if set, else SQLite in the storage
    folder."""
    experiment: Execution[str] = "gscnn"
    """MLflow experiment."""
    system_metrics: Execution[bool] = True
    """Log CPU, memory and GPU use."""
    on_deleted: Execution[OnDeleted] = "error"
    """If the MLflow run was deleted: fail, restore it, or create a new one that gets everything tracked before."""

    @field_validator("uri")
    @classmethod
    def _without_password(cls, uri: str | None) -> str | None:
        if uri is not None and not uri.strip():
            raise ValueError("must not be empty: give one, or omit the option")
        if uri is not None and has_password(uri):
            raise ValueError(
                "logs and MLflow would show its user and password: set them in MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD, or in ~/.mlflow/credentials (deploy/mlflow.md)"
            )
        return uri

    @field_validator("uri", mode="before")
    @classmethod
    def _hidden(cls, uri: Any) -> Any:
        # pydantic's error repeats the input of the check above.
        return _PASSWORD.sub(r"\1\2***:***@", uri) if isinstance(uri, str) else uri
