"""Three hosts and a laptop on this machine, which hosts.sh creates as namespaces, and commands on them."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
SCRIPT: Final = Path(__file__).with_name("hosts.sh")
FOLDER: Final = Path("/var/tmp/gscnn-hosts")
SHARED: Final = FOLDER / "shared"
"""Folder that all hosts share, as on NFS."""
HEAD: Final = 1
HOSTS: Final = (1, 2, 3)
LAPTOP: Final = 4
CORES: Final = os.cpu_count() or 1
"""CPU cores of every host: each host sees all cores of this machine."""

NEEDED: Final = {"ip": "iproute2", "sshd": "openssh-server", "rsync": "rsync", "unshare": "util-linux"}
"""Program -> Debian's package."""


def require() -> None:
    """Skips the tests if this machine cannot create hosts."""
    if os.geteuid() != 0:
        pytest.skip("making hosts needs root")
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [package for program, package in NEEDED.items() if shutil.which(program, path=path) is None]
    if missing:
        pytest.skip(f"missing: apt-get install {' '.join(missing)}")
    if subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], check=False).returncode:
        pytest.skip("this container may not make namespaces")


def hosts(*arguments: object, seconds: float = 60) -> None:
    """Runs hosts.sh."""
    sees = ":".join(map(str, (ROOT, sys.prefix, sys.base_prefix)))
    done = subprocess.run(
        [SCRIPT, *map(str, arguments)],
        env={**os.environ, "HOSTS_SEE": sees},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stderr


def address(host: int) -> str:
    return f"10.79.0.{host}"


def home(host: int) -> Path:
    return FOLDER / str(host) / "home"


def command(host: int, *words: object) -> list[str]:
    """Returns the command line that runs a command on a host."""
    return [str(SCRIPT), "sh", str(host), *map(str, words)]


def variables(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns the environment of a shell with the checkout's .venv on its PATH and without this process's settings."""
    own = ("RAY_", "MLFLOW_", "PYTHON", "HOSTS_")
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(own)}
    return {
        **inherited,
        "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}",
        "RAY_USAGE_STATS_ENABLED": "0",
        **(more or {}),
    }


def run(
    host: int, *words: object, env: Mapping[str, str] | None = None, seconds: float = 120
) -> subprocess.CompletedProcess[str]:
    """Runs a command on a host, with stderr redirected to stdout."""
    return subprocess.run(
        command(host, *words),
        env=variables(env),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=seconds,
    )


def ok(host: int, *words: object, env: Mapping[str, str] | None = None, seconds: float = 120) -> str:
    """Runs a command that must succeed; returns its output."""
    done = run(host, *words, env=env, seconds=seconds)
    assert done.returncode == 0, f"{' '.join(map(str, words))}: status {done.returncode}\n{done.stdout[-3000:]}"
    return done.stdout


def start(host: int, *words: object) -> subprocess.Popen[bytes]:
    """Starts a command that ends with its host at the latest; its output goes to a file in the host's home."""
    with (home(host) / f"{Path(str(words[0])).name}.log").open("ab") as log:
        return subprocess.Popen(
            command(host, *words), env=variables(), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )


def processes(host: int, pattern: str) -> list[int]:
    """Returns the ids of a host's processes whose command line matches the pattern."""
    return [int(line) for line in run(host, "pgrep", "-f", "--", pattern).stdout.split()]


def until(true: Callable[[], bool], seconds: float, what: str) -> float:
    """Waits until `true()` holds; returns the seconds that it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, f"not within {seconds} s: {what}"
        time.sleep(1)
    return time.monotonic() - began
