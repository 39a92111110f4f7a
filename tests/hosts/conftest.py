"""Fixtures of the multi-host tests: the hosts, a cluster that `ray up` started on them, and a tracking server."""

import os
import re
import secrets
import shutil
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.hosts import machines
from tests.hosts.machines import FOLDER, HEAD, HOSTS, LAPTOP, ROOT, address, home, ok, start, until
from tests.hosts.steps import timed

FILE = "deploy/on-premises.yaml"
TRACKING = f"http://{address(HEAD)}:5000"
TOKEN = {"RAY_AUTH_MODE": "token"}
DASHBOARD = {**TOKEN, "RAY_API_SERVER_ADDRESS": "http://localhost:8265"}
"""Variables that a user exports before `ray job`."""


@dataclass(frozen=True)
class Secrets:
    """Secrets, which must be only in the files that are meant to hold them."""

    mlflow: str = field(default_factory=lambda: secrets.token_hex(16))
    """Password of MLflow's administrator."""
    postgres: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def token(self) -> str:
        """Ray's token, after the laptop has created it."""
        return (home(LAPTOP) / ".ray" / "auth_token").read_text().strip()


@pytest.fixture(scope="module")
def hosts() -> Iterator[None]:
    """Three hosts and a laptop, which are removed at the end, even if this process is killed."""
    machines.require()
    with timed("three hosts and a laptop start"):
        machines.hosts("up", 4, os.getpid())
    yield
    machines.hosts("down")


@pytest.fixture(scope="module")
def kept(hosts: None) -> Secrets:
    """Secrets in the laptop's files that deploy/on-premises.yaml names."""
    kept = Secrets()
    write_private(
        home(LAPTOP) / ".mlflow" / "credentials",
        f"[mlflow]\nmlflow_tracking_username = admin\nmlflow_tracking_password = {kept.mlflow}\n",
    )
    ok(LAPTOP, "ray", "get-auth-token", "--generate")
    (home(LAPTOP) / ".ray" / "auth_token").chmod(0o600)
    return kept


@pytest.fixture(scope="module")
def cluster(kept: Secrets) -> Path:
    """The cluster file of a cluster of three nodes, which is reached through the tunnel of `ray dashboard`."""
    file = filled(home(LAPTOP))
    with timed("`jobs.check_cluster`"):
        ok(LAPTOP, "python", "-m", "jobs.check_cluster", file, env={"PYTHONPATH": ".:platform"})
    with timed("`ray up` until three hosts work"):
        ok(LAPTOP, "ray", "up", "--yes", file, seconds=300)
        until(lambda: nodes() == len(HOSTS), 120, "three nodes")
    start(LAPTOP, "ray", "dashboard", file)
    until(
        lambda: machines.run(LAPTOP, "ray", "job", "list", env=DASHBOARD).returncode == 0, 60, "the dashboard answers"
    )
    return file


@pytest.fixture(scope="module")
def tracking(kept: Secrets) -> str:
    """URI of MLflow with PostgreSQL on the first host, set up as in deploy/mlflow.md."""
    pytest.importorskip("psycopg2", reason="PostgreSQL's driver is missing: pip install '.[server]'")
    with timed("PostgreSQL and MLflow start"):
        settings = {
            "MLFLOW_BACKEND_STORE_URI": start_postgres(kept.postgres),
            "MLFLOW_ARTIFACTS_DESTINATION": str(FOLDER / str(HEAD) / "artifacts"),
            "MLFLOW_SERVER_ALLOWED_HOSTS": f"host{HEAD}",
            "MLFLOW_AUTH_ADMIN_PASSWORD": kept.mlflow,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
            "MLFLOW_HOST": "0.0.0.0",
            "MLFLOW_WORKERS": "1",
        }
        env_file = home(HEAD) / "mlflow.env"
        write_private(env_file, "".join(f"{name}={value}\n" for name, value in settings.items()))
        start(HEAD, ROOT / "deploy" / "mlflow-server", env_file)
        until(answers, 120, "MLflow answers")
    return TRACKING


def write_private(file: Path, text: str) -> None:
    file.parent.mkdir(mode=0o700, exist_ok=True)
    file.touch(mode=0o600)
    file.write_text(text)


def filled(folder: Path) -> Path:
    """Writes deploy/on-premises.yaml with a user's values filled in and no other change; returns its path."""
    text = (ROOT / FILE).read_text()
    for value in (address(host) for host in HOSTS if host != HEAD):
        text = text.replace("FILL_IN_WORKER_ADDRESS", value, 1)
    values = {
        "FILL_IN_HEAD_ADDRESS": address(HEAD),
        "FILL_IN_SSH_USER": "root",
        "FILL_IN_SSH_KEY": "~/.ssh/id_ed25519",
        "FILL_IN_ENVIRONMENT": str(Path(shutil.which("ray", path=machines.variables()["PATH"]) or "").parent.parent),
        "FILL_IN_MLFLOW_URI": TRACKING,
    }
    for name, value in values.items():
        assert name in text
        text = text.replace(name, value)
    file = folder / Path(FILE).name
    file.write_text(text)
    return file


def nodes() -> int:
    """Returns the number of active nodes in `ray status`; 0 if there is no cluster."""
    # Its sum of CPUs keeps counting nodes that are gone.
    active = re.search(r"(\d+) local\.cluster\.node", machines.run(HEAD, "ray", "status", env=TOKEN).stdout)
    return 0 if active is None else int(active[1])


def start_postgres(password: str) -> str:
    """Starts a PostgreSQL server on the first host; returns its URI. Skips if Debian's package is missing."""
    programs = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
    if programs is None:
        pytest.skip("missing: apt-get install postgresql")
    folder = FOLDER / str(HEAD) / "postgres"
    folder.mkdir()
    write_private(folder / "password", password)
    for path in (folder, folder / "password"):
        shutil.chown(path, "postgres", "postgres")
    data, as_postgres = folder / "data", ("runuser", "-u", "postgres", "--")
    made = ("-U", "mlflow", "-A", "scram-sha-256", "-E", "UTF8", f"--pwfile={folder / 'password'}")
    ok(HEAD, *as_postgres, programs / "initdb", "-D", data, *made)
    options = "-c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
    ok(HEAD, *as_postgres, programs / "pg_ctl", "-D", data, "-l", folder / "log", "-o", options, "-w", "start")
    ok(HEAD, programs / "createdb", "-h", "127.0.0.1", "-U", "mlflow", "mlflow", env={"PGPASSWORD": password})
    return f"postgresql://mlflow:{password}@127.0.0.1:5432/mlflow"


def answers() -> bool:
    try:
        return urllib.request.urlopen(f"{TRACKING}/health", timeout=2).status == 200
    except OSError:
        return False
