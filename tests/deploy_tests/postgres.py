"""A temporary PostgreSQL server for a test, from Debian's packages; it starts within seconds."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest

ROLE: Final = "mlflow"
"""User that owns a database of the same name."""
PASSWORD: Final = "pg: p@ss/w%rd"
"""Password with all characters that a URI must escape."""
OPTIONS: Final = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}


@contextmanager
def running_postgres() -> Iterator[str]:
    """Yields the database's URI. Skips if Debian's package is missing, or if root has no other user to run it as."""
    psycopg2 = pytest.importorskip("psycopg2", reason="psycopg2 is missing: pip install '.[server]'")
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
    if programs is None or not (programs / "initdb").exists():
        pytest.skip("PostgreSQL is missing: apt-get install postgresql")
    user, port = _user(), free_port()
    # Not in pytest's folder, which only root can access.
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        (folder / "password").write_text(PASSWORD)
        if user is not None:
            for path in (folder, folder / "password"):
                shutil.chown(path, user)
        make = f"initdb -D {folder}/data -U postgres -A scram-sha-256 -E UTF8 --no-sync --pwfile={folder}/password"
        subprocess.run(_in(programs, make), user=user, group=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        serve = f"postgres -D {folder}/data -p {port} " + " ".join(f"--{key}={value}" for key, value in OPTIONS.items())
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(
                _in(programs, serve), user=user, group=user, cwd=folder, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            with closing(_connected(psycopg2, server, port, folder / "log")) as connection:
                connection.autocommit = True
                with connection.cursor() as cursor:
                    cursor.execute(f"create role {ROLE} login password %s", (PASSWORD,))
                    cursor.execute(f"create database {ROLE} owner {ROLE}")
            yield f"postgresql://{ROLE}:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/{ROLE}"
        finally:
            server.send_signal(signal.SIGINT)  # Ends clients that are still connected.
            server.wait(30)
    finally:
        shutil.rmtree(folder)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def _user() -> str | None:
    """Returns the user to run the server as, since PostgreSQL refuses to run as root; None: the current user."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        pytest.skip("PostgreSQL refuses root, and there is no user postgres")


def _in(programs: Path, command: str) -> list[str]:
    return f"{programs}/{command}".split()


def _connected(psycopg2: Any, server: subprocess.Popen[bytes], port: int, log: Path) -> Any:
    until = time.monotonic() + 30
    while True:
        try:
            return psycopg2.connect(host="127.0.0.1", port=port, user="postgres", password=PASSWORD, dbname="postgres")
        except psycopg2.OperationalError:
            assert server.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.1)
