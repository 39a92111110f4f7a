"""A store on a local S3 endpoint."""

from pathlib import Path

import pytest

from gscnn_platform.data.store import Store
from gscnn_platform.paths import RemotePath, as_path
from tests.remote_stores import put
from tests.stores import build_store


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "gscnn"


@pytest.fixture(scope="session")
def parts_of_two(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Six training scenes in three parts."""
    return build_store(tmp_path_factory.mktemp("parts") / "store", part_rows=2)


@pytest.fixture
def uri(parts_of_two: Store, remote: str) -> str:
    """`parts_of_two` on the endpoint."""
    assert isinstance(parts_of_two.path, Path)
    place = as_path(remote)
    assert isinstance(place, RemotePath)
    return put(parts_of_two.path, place)
