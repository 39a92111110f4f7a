"""Finds and checks the tracking URI, without MLflow."""

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
"""Schemes of tracking URIs that MLflow supports without plugins."""
CREDENTIALS: Final = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or ~/.mlflow/credentials"
"""Where MLflow reads user and password, at every request."""
MOST_SHOWN: Final = 300
"""Maximum number of characters of a server's answer in a message."""
PORTS: Final = {"http": 80, "https": 443}
WITH_SERVER: Final = ("http://", "https://")
"""Beginnings of the URIs of servers, which have a UI."""
LOCAL_UI: Final = "http://127.0.0.1:5000"
"""Address of `make ui` and `mlflow ui` for a store without a server."""
AS_TRAINING: Final = "workflowType=machine_learning"
"""Query of a page that shows it as "Model training"; a browser that has not chosen this once opens "GenAI"."""
MODELS: Final = "models:/"
"""Prefix of a reference to a registered model."""


def tracking_uri(config: TrackingConfig, storage: str) -> str:
    """Returns the config's URI, else MLFLOW_TRACKING_URI, else a SQLite file in the storage folder.

    If the storage is remote, the SQLite file is in a folder of this machine.

    Raises:
        TrackingError: MLFLOW_TRACKING_URI contains a password, or is an in-memory database.
    """
    uri = _named_uri(config)
    if uri:
        return uri
    # The folder is not created here: a job that only reads leaves nothing behind and needs no write access.
    folder = machine.lasting_folder() if "://" in storage else Path(storage)
    return sqlite_uri(folder / "mlflow.db")


def check_named_uri(config: TrackingConfig) -> None:
    """Checks, within 5 s, that the configured server is reachable, before anything is started for a run.

    Raises:
        TrackingError: nothing listens there, or MLFLOW_TRACKING_URI contains a password.
    """
    uri = _named_uri(config)
    try:
        _check_scheme(uri or "")
        check_listening(uri or "")
    except (OSError, ValueError) as error:
        raise does_not_work(f"{uri}", error) from error


def _check_scheme(uri: str) -> None:
    """Raises ValueError if neither MLflow nor one of its plugins has a store for the URI's scheme."""
    scheme = uri.partition("://")[0].partition("+")[0] if "://" in uri else ""
    plugins = {entry.name for entry in importlib.metadata.entry_points(group="mlflow.tracking_store")}
    if scheme and scheme not in SCHEMES and scheme not in plugins:
        raise ValueError(
            f"MLflow has no store for {scheme}://, only for {', '.join(SCHEMES)}; {did_you_mean(scheme, SCHEMES)}"
        )


def does_not_work(uri: str, error: Exception) -> TrackingError:
    """Returns the error for a tracking URI at which no run can be created."""
    return TrackingError(f"tracking URI {uri} does not work: {brief(error)}; set --tracking.uri or MLFLOW_TRACKING_URI")


def brief(error: Exception) -> str:
    """Returns an error's message in one short line: MLflow quotes a whole page if a proxy answers with one."""
    message = " ".join(str(error).split())
    return message if len(message) <= MOST_SHOWN else f"{message[:MOST_SHOWN]}..."


def _named_uri(config: TrackingConfig) -> str | None:
    # Environment variables from YAML files may end with a newline.
    uri = (config.uri or os.environ.get("MLFLOW_TRACKING_URI", "")).strip()
    if uri:
        check_no_password(uri, "MLFLOW_TRACKING_URI")
        database = sqlite_path(uri)
        if uri.rstrip("/") == "sqlite:" or (database is not None and database.name in ("", ":memory:")):
            raise TrackingError(f"tracking URI {uri} is an in-memory database and is not kept: use sqlite:///FILE")
        if database is not None and not database.is_absolute():
            # Workers run in other folders, where a relative path would mean another file.
            return sqlite_uri(Path(cluster.resolve(str(database), "the path of --tracking.uri")))
    return uri or None


def ui_command(uri: str) -> str:
    """Returns the command that shows the runs of a tracking URI."""
    return f"mlflow ui --backend-store-uri {shlex.quote(uri)}" if sqlite_path(uri) else f"open {shlex.quote(uri)}"


def run_page(uri: str, experiment_id: str, run_id: str, charts: bool = True) -> str:
    """Returns the address of a run in the MLflow UI: of its charts, or of its overview with the description.

    For a store without a server, it is an address of `mlflow ui`.
    """
    server = uri.rstrip("/") if uri.startswith(WITH_SERVER) else LOCAL_UI
    tab = "/model-metrics" if charts else ""
    return f"{server}/#/experiments/{experiment_id}/runs/{run_id}{tab}?{AS_TRAINING}"


def check_no_password(uri: str, field: str) -> None:
    """Checks that a tracking URI contains no user or password: logs, run records and MLflow would show it.

    Raises:
        TrackingError: it contains one; the message does not repeat it.
    """
    if has_password(uri):
        raise TrackingError(
            f"{field} contains a user or a password, which logs and MLflow would show: set {CREDENTIALS} instead "
            "(deploy/mlflow.md)"
        )


def check_listening(uri: str) -> None:
    """Raises OSError if nothing listens at an http(s) URI: MLflow itself would retry for minutes."""
    try:
        address = urlsplit(uri)
        if address.scheme in ("http", "https") and address.hostname:
            socket.create_connection(_first_hop(address), timeout=5).close()
    except ValueError as error:  # An invalid port or host name.
        raise OSError(f"{uri} is not a server address: {error}") from error


def _first_hop(server: SplitResult) -> tuple[str, int]:
    """Returns host and port of a request's first hop: the proxy in HTTPS_PROXY, as in MLflow, or the server."""
    assert server.hostname is not None
    proxies = getproxies()
    proxy = proxies.get(server.scheme) or proxies.get("all")
    hop = urlsplit(proxy if proxy and "://" in proxy else f"http://{proxy}") if proxy else server
    if hop.hostname is None or proxy_bypass(server.hostname):
        hop = server
    assert hop.hostname is not None
    return hop.hostname, hop.port or PORTS.get(hop.scheme, 1080)


def check_database(uri: str) -> None:
    """Raises FileNotFoundError if the URI's SQLite file is missing: MLflow would create an empty one."""
    database = sqlite_path(uri)
    if database is not None and not database.is_file():
        raise FileNotFoundError("there is no such file")


def artifact_picture(run_id: str, file: str, text: str) -> str:
    """Returns Markdown that the UI shows as the picture in an artifact of a run; its address is relative, as a link's.

    The UI's filter of descriptions lets it through, and the server reads artifacts from wherever they are.
    """
    return f"!{artifact_link(run_id, file, text)}"


def artifact_link(run_id: str, file: str, text: str) -> str:
    """Returns Markdown that the UI shows as a link to an artifact of a run."""
    return f"[{markdown(text)}](get-artifact?path={quote(file)}&run_uuid={run_id})"


def is_run_id(text: str) -> bool:
    """Returns whether `text` has the form of an MLflow run id: 32 hex digits."""
    return re.fullmatch(r"[0-9a-f]{32}", text) is not None
