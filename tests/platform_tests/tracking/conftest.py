"""A SQLite store in a folder with an awkward name, and a run in it."""

from pathlib import Path

import mlflow
import pytest

from gscnn_platform import tracking
from gscnn_platform.config import ExperimentConfig, TrackingConfig
from gscnn_platform.data.store import Store
from gscnn_platform.runs.folder import RunFolder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage folder whose name has special characters of SQLite, MLflow's filters, URIs and shells."""
    return tmp_path_factory.mktemp("store") / 'o\'brien "50%20" what? #1 ß'


@pytest.fixture(scope="module")
def uri(folder: Path) -> str:
    return tracking.tracking_uri(TrackingConfig(), str(folder))


@pytest.fixture
def client(uri: str) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(uri)


@pytest.fixture
def run_id(uri: str, tiny_run: ExperimentConfig, streets_store: Store, tmp_path: Path) -> str:
    return tracking.create_run(uri, tiny_run, RunFolder(str(tmp_path)), streets_store, {})
