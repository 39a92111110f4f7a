"""Messages for requests that a tracking server denies for lack of permissions (401, 403)."""

import configparser

from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import read_mlflow_creds
from requests import HTTPError

from gscnn_platform.tracking.outbox.errors import TrackingError
from gscnn_platform.tracking.uri import CREDENTIALS, brief, does_not_work


def check_credentials() -> None:
    """Checks that MLflow can read the credentials file: its own error would show the line with the password.

    Raises:
        TrackingError: MLflow cannot read it.
    """
    try:
        read_mlflow_creds()
    except configparser.Error as error:
        raise TrackingError(
            f"~/.mlflow/credentials cannot be read ({type(error).__name__}): it has a line [mlflow], then "
            "mlflow_tracking_username = NAME and mlflow_tracking_password = PASSWORD, with %% for each %"
        ) from None


def refusal(error: Exception) -> str | None:
    """Returns what to do about a 401 or 403, in one line; None for any other error."""
    status = _status(error)
    if status not in (401, 403):
        return None
    user = read_mlflow_creds().username
    if status == 401 and user is None:
        return f"the server requires a user and a password (401): set {CREDENTIALS} (deploy/mlflow.md)"
    if status == 401:
        return f"the server rejects this password of user {user!r} (401): fix {CREDENTIALS} (deploy/mlflow.md)"
    if "Invalid Host header" in str(error):
        return "this host is not in the server's MLFLOW_SERVER_ALLOWED_HOSTS (403): add it there and restart the server"
    return (
        f"the server does not let user {user!r} do this, or there is no such run (403): ask the experiment's owner for "
        "EDIT, or choose another one with --tracking.experiment (deploy/mlflow.md)"
    )


def reason(error: Exception) -> str:
    """Returns why a request failed, in one line."""
    return refusal(error) or brief(error)


def unusable(uri: str, error: Exception) -> TrackingError:
    """Returns the error for a tracking URI at which no run can be created."""
    refused = refusal(error)
    if refused:
        return TrackingError(f"tracking URI {uri}: {refused}")
    return does_not_work(uri, error)


def _status(error: Exception) -> int | None:
    """Returns the HTTP status of the answer; None if there was no answer."""
    if isinstance(error, HTTPError) and error.response is not None:  # From the artifact proxy.
        return error.response.status_code
    # MLflow returns 400 or 500 for its other errors.
    return error.get_http_status_code() if isinstance(error, MlflowException) else None
