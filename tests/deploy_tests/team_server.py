"""Starts deploy/mlflow-server as a user does, and sends requests to it without MLflow's client."""

import base64
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SCRIPT: Final = Path(__file__).resolve().parents[2] / "deploy" / "mlflow-server"
SECRET_KEY: Final = "0123456789abcdef" * 2

User = tuple[str, str]
"""User name and password."""


@dataclass(frozen=True)
class TeamServer:
    """A running server."""

    pid: int
    port: int
    folder: Path
    """Contains the server's `env` file, its `log`, the `artifacts`, and its temporary files in `private`."""

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, path: str, user: User | None = None, body: Any = None, **headers: str) -> int:
        """Returns the HTTP status of a plain request, which is a POST if there is a body, sent as JSON."""
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        if user is not None:
            headers["Authorization"] = f"Basic {base64.b64encode(':'.join(user).encode()).decode()}"
        request = urllib.request.Request(self.uri + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def listens(self) -> bool:
        try:
            return self.answer("/health") == 200
        except OSError:
            return False

    def processes(self) -> list[int]:
        """Returns the ids of the script's process and of all processes that it started."""
        found = [self.pid]
        for pid in found:
            found += [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return found


def environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns this process's environment with the given settings, without MLflow variables for other servers."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    return {**ours, **(settings or {})}


def write_env_file(file: Path, settings: Mapping[str, str], mode: int = 0o600) -> Path:
    file.write_text("# of a test\n\n" + "".join(f"{key}={value}\n" for key, value in settings.items()))
    file.chmod(mode)
    return file


@contextmanager
def running_server(folder: Path, port: int, settings: Mapping[str, str]) -> Iterator[TeamServer]:
    """Starts the script with an env file in `folder`, and stops it with SIGTERM."""
    private = folder / "private"
    private.mkdir()
    file = write_env_file(folder / "env", {"MLFLOW_PORT": str(port), **settings})
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [SCRIPT, file], env=environment({"TMPDIR": str(private)}), cwd=private, stdout=log, stderr=log
        )
    server = TeamServer(process.pid, port, folder)
    try:
        until = time.monotonic() + 120
        while not server.listens():
            assert process.poll() is None and time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.2)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, (folder / "log").read_text()
    assert not list(private.iterdir()), "the database's password is left on the disk"
