"""The tracking URI, and the checks of it that need no MLflow."""

import importlib.metadata
import os
import re
import shlex
import socket
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, quote, urlsplit
from urllib.request import getproxies, proxy_bypass

from gscnn_platform import cluster, machine
from gscnn_platform.config import TrackingConfig, has_password
from gscnn_platform.invalid_values import did_you_mean
from gscnn_platform.names import markdown, sqlite_path, sqlite_uri
from gscnn_platform.tracking.outbox.errors import TrackingError

SCHEMES: Final = (
    *("http", "https", "sqlite", "postgresql", "mysql", "mssql", "file"),
    *("databricks", "databricks-uc", "uc"),
)
"""Of the tracking URIs that MLflow takes by itself."""
CREDENTIALS: Final = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or ~/.mlflow/credentials"
"""Where MLflow reads a user's name and password, at every request."""
MOST_SAID: Final = 300
"""Characters of a server's answer that a message quotes."""
PORTS: Final = {"http": 80, "https": 443}
MODELS: Final = "models:/"
"""Prefix of a reference to a registered model."""


def tracking_uri(config: TrackingConfig, storage: str) -> str:
    """The config's URI, else MLFLOW_TRACKING_URI, else SQLite in the storage folder (or here, for a remote one).

    Raises:
        TrackingError: MLFLOW_TRACKING_URI carries a password, or is a database in memory.
    """
    uri = _named_uri(config)
    if uri:
        return uri
    # Not made here: a job that only reads leaves no folder behind, and needs none that it can write.
    folder = machine.lasting_folder() if "://" in storage else Path(storage)
    return sqlite_uri(folder / "mlflow.db")


def check_named_uri(config: TrackingConfig) -> None:
    """Looks, in 5 s at most, whether the server that is named answers, before anything is started for a run.

    Raises:
        TrackingError: nothing listens there, or MLFLOW_TRACKING_URI carries a password.
    """
    uri = _named_uri(config)
    try:
        _check_scheme(uri or "")
        check_listening(uri or "")
    except (OSError, ValueError) as error:
        raise does_not_work(f"{uri}", error) from error


def _check_scheme(uri: str) -> None:
    """Raises ValueError if MLflow has no store for the URI's scheme; plugins may bring more of them."""
    scheme = uri.partition("://")[0].partition("+")[0] if "://" in uri else ""
    plugins = {entry.name for entry in importlib.metadata.entry_points(group="mlflow.tracking_store")}
    if scheme and scheme not in SCHEMES and scheme not in plugins:
        raise ValueError(f"MLflow knows no {scheme}://, but {', '.join(SCHEMES)}; {did_you_mean(scheme, SCHEMES)}")


def does_not_work(uri: str, error: Exception) -> TrackingError:
    """The error for a tracking URI at which no run can be created."""
    return TrackingError(f"tracking URI {uri} does not work: {brief(error)}; set --tracking.uri or MLFLOW_TRACKING_URI")


def brief(error: Exception) -> str:
    """What an error says, in a line: a proxy answers with a whole page, which MLflow quotes."""
    said = " ".join(str(error).split())
    return said if len(said) <= MOST_SAID else f"{said[:MOST_SAID]}..."


def _named_uri(config: TrackingConfig) -> str | None:
    # Without the end of the line that `$(cat FILE)` and YAML files leave.
    uri = (config.uri or os.environ.get("MLFLOW_TRACKING_URI", "")).strip()
    if uri:
        check_no_password(uri, "MLFLOW_TRACKING_URI")
        database = sqlite_path(uri)
        if uri.rstrip("/") == "sqlite:" or (database is not None and database.name in ("", ":memory:")):
            raise TrackingError(f"tracking URI {uri} is kept in memory and lost at once: name a file, sqlite:///FILE")
        if database is not None and not database.is_absolute():
            # Workers run in other folders, where a relative path would be another file.
            return sqlite_uri(Path(cluster.resolve(str(database), "the path of --tracking.uri")))
    return uri or None


def ui_command(uri: str) -> str:
    """The command or link that shows the runs of a tracking URI."""
    return f"mlflow ui --backend-store-uri {shlex.quote(uri)}" if sqlite_path(uri) else f"open {shlex.quote(uri)}"


def check_no_password(uri: str, field: str) -> None:
    """Refuses a tracking URI with a password in it, which logs, run records and MLflow itself would show.

    Raises:
        TrackingError: it has one; the message does not repeat it.
    """
    if has_password(uri):
        raise TrackingError(
            f"{field} carries a user or a password, which logs and MLflow would show: give them by {CREDENTIALS} "
            "(deploy/mlflow.md)"
        )


def check_listening(uri: str) -> None:
    """Raises OSError where nothing listens at an http(s) URI: MLflow itself would retry for minutes."""
    try:
        address = urlsplit(uri)
        if address.scheme in ("http", "https") and address.hostname:
            socket.create_connection(_first_hop(address), timeout=5).close()
    except ValueError as error:  # A port that is none, or a name that no host can have.
        raise OSError(f"{uri} is no address of a server: {error}") from error


def _first_hop(server: SplitResult) -> tuple[str, int]:
    """Host and port that a request to a server goes to: the proxy that HTTPS_PROXY names, as for MLflow's requests."""
    assert server.hostname is not None
    proxies = getproxies()
    proxy = proxies.get(server.scheme) or proxies.get("all")
    hop = urlsplit(proxy if proxy and "://" in proxy else f"http://{proxy}") if proxy else server
    if hop.hostname is None or proxy_bypass(server.hostname):
        hop = server
    assert hop.hostname is not None
    return hop.hostname, hop.port or PORTS.get(hop.scheme, 1080)


def check_database(uri: str) -> None:
    """Raises FileNotFoundError where a SQLite file is missing: to look for a run there would make an empty one."""
    database = sqlite_path(uri)
    if database is not None and not database.is_file():
        raise FileNotFoundError("there is no such file")


def artifact_link(run_id: str, file: str, text: str) -> str:
    """Markdown that the UI shows as a link to an artifact of a run."""
    return f"[{markdown(text)}](get-artifact?path={quote(file)}&run_uuid={run_id})"


def is_run_id(text: str) -> bool:
    """Whether `text` looks like an MLflow run id: 32 hex digits."""
    return re.fullmatch(r"[0-9a-f]{32}", text) is not None
