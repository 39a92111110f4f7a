"""Records the provenance of a run: code, data and versions."""

import hashlib
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

import gscnn
from gscnn_platform import machine
from gscnn_platform.config import ExperimentConfig
from gscnn_platform.data.store import Store

GIT_COMMIT: Final = "GSCNN_GIT_COMMIT"
"""Environment variable with the commit, for when there is no .git, as in a submitted job."""


def origin_tags() -> dict[str, str]:
    """Tags of any MLflow run: user, command and code."""
    commit, dirty = git_state()
    return {
        # On a cluster, all jobs run as the same user of the machine.
        "mlflow.user": os.environ.get("MLFLOW_TRACKING_USERNAME") or machine.user_name(),
        "mlflow.source.name": shlex.join(sys.orig_argv[1:]),
        "mlflow.source.git.commit": commit,
        "git.commit": commit,
        "git.dirty": dirty,
        "code.sha256": code_digest(),
    }


def run_tags(config: ExperimentConfig, store: Store) -> dict[str, str]:
    """Tags of a run: user, command, recipe, code and data."""
    return {
        **origin_tags(),
        "recipe": config.name,
        "dataset": store.manifest.identity.dataset,
        "dataset.fingerprint": store.manifest.fingerprint,
    }


def package_versions() -> dict[str, str]:
    """Versions of Python and of all installed packages, by name; about 200, in 0.1 s."""
    found = {package.name: package.version for package in importlib.metadata.distributions()}
    return {"python": platform.python_version(), **dict(sorted(found.items()))}


def git_state() -> tuple[str, str]:
    """The commit, and whether the working tree differs from it; from the environment if there is no .git."""
    root = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        # Git does not read another user's checkout, as in a container's image, unless it is marked as safe.
        command = ["git", "-c", "safe.directory=*", *arguments]
        done = subprocess.run(command, cwd=root, capture_output=True, check=False)
        return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None

    try:
        commit, status = git("rev-parse", "HEAD"), git("status", "--porcelain")
    except OSError:  # Git is missing or may not be run.
        commit = status = None
    if commit is not None and status is not None:
        return commit, str(bool(status))
    named = os.environ.get(GIT_COMMIT, "unknown")
    return named.removesuffix("-dirty"), str(named.endswith("-dirty")) if named != "unknown" else "unknown"


def code_digest() -> str:
    """The first 16 hex digits of the sha256 over the sources of both packages; it works without git."""
    digest = hashlib.sha256()
    for package in (Path(gscnn.__file__).parent, Path(__file__).parent):
        for file in sorted(package.rglob("*.py")):
            digest.update(str(file.relative_to(package.parent)).encode() + file.read_bytes())
    return digest.hexdigest()[:16]
