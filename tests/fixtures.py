"""Fixtures of the platform and job tests: a tiny store and one Ray cluster for the whole session."""

import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray

from gscnn_platform import cluster
from gscnn_platform.config import ExperimentConfig, with_overrides
from gscnn_platform.data.store import Store
from gscnn_platform.recipes import RECIPES
from tests.s3 import BUCKET, Endpoint, s3_endpoint
from tests.stores import build_store


@pytest.fixture(scope="session")
def streets_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Six training and three validation scenes of 96x64, built without Ray."""
    return build_store(tmp_path_factory.mktemp("streets") / "store")


@pytest.fixture
def tiny_run(streets_store: Store) -> ExperimentConfig:
    """A run on `streets_store` that takes seconds: 2 epochs of 3 steps."""
    return with_overrides(
        RECIPES["streets"],
        {
            "store": str(streets_store.path),
            "augmentation.crop": (64, 64),
            "training.epochs": 2,
            "training.batch_size": 2,
            "training.log_every": 2,
            "training.validate_every": 1,
            "training.pictures": 2,
            "model.aspp_channels": 8,
            "model.low_level_channels": 8,
            "model.shape_widths": (8, 8, 8, 8),
            "tracking.system_metrics": False,
        },
    )


@pytest.fixture(scope="session")
def s3_session() -> Iterator[Endpoint]:
    with s3_endpoint() as endpoint:
        yield endpoint


@pytest.fixture
def s3(s3_session: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Endpoint:
    """A local S3 endpoint that works until the test changes that, and an empty cache for this test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    s3_session.recover()
    return s3_session


@pytest.fixture
def remote(s3: Endpoint) -> str:
    """URI of an empty folder on the S3 endpoint."""
    return f"s3://{BUCKET}/{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def ray_cluster(s3_session: Endpoint) -> Iterator[None]:
    """A local cluster for all tests that need Ray; its workers know the S3 endpoint."""
    os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"
    cluster.connect()
    yield
    ray.shutdown()


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Returns a function that mounts a file system of a given size in MB; skips if mounting is not allowed."""
    folder = tmp_path / "disk"

    def mounted(megabytes: int) -> Path:
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
        if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("mounting a small disk needs root")
        return folder

    yield mounted
    if folder.is_mount():
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
