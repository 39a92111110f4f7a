"""Puts stores on an endpoint and reads them, for tests of remote stores and of their cache."""

from pathlib import Path

import numpy as np

from gscnn_platform.config import CacheConfig, DataConfig
from gscnn_platform.data.store import SplitReader, Store, open_store
from gscnn_platform.data.store.manifest import Part
from gscnn_platform.paths import RemotePath, below, upload


def put(folder: Path, to: RemotePath) -> str:
    for file in folder.rglob("*"):
        if file.is_file():
            upload(file, to / str(below(file, folder)))
    return str(to)


def open_with(uri: str, gigabytes: float) -> Store:
    return open_store(uri, DataConfig(cache=CacheConfig(gigabytes=gigabytes)))


def assert_same(one: SplitReader, other: SplitReader) -> None:
    assert one.names == other.names
    assert one.sizes == other.sizes
    for index in range(len(one)):
        for key, array in vars(one.read(index)).items():
            np.testing.assert_array_equal(array, getattr(other.read(index), key))


def parts_of(store: Store, split: str = "train") -> list[tuple[RemotePath, Part]]:
    assert isinstance(store.path, RemotePath)
    return [(store.path / part.file, part) for part in store.manifest.splits[split].parts]


def all_of(store: Store) -> set[str]:
    return {part.sha256 for split in store.manifest.splits.values() for part in split.parts}
