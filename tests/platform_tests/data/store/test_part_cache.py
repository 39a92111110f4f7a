"""A node's cache of the parts of remote stores, on a local S3 endpoint."""

import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gscnn_platform.config import CacheConfig, DataConfig
from gscnn_platform.data.store import Store, StoreError, open_store, part_cache
from gscnn_platform.data.store.parts import file_digest
from gscnn_platform.paths import RemotePath
from tests.remote_stores import all_of, assert_same, open_with, parts_of
from tests.s3 import Endpoint, Mode
from tests.stores import flip_bit


def test_a_part_is_fetched_once_for_all_processes_of_a_node_and_all_runs(uri: str, s3: Endpoint) -> None:
    store = open_with(uri, 1)
    fetch = [CacheConfig(), parts_of(store), all_of(store)]
    s3.bytes_per_second = 200_000
    s3.answered = 0
    with ThreadPoolExecutor(3) as pool:
        files = list(pool.map(lambda _: part_cache.fetch(*fetch), range(3)))
    assert files[0] == files[1] == files[2]
    size = sum(part.bytes for _, part in parts_of(store))
    assert size <= s3.answered < 1.2 * size
    with s3.failing(Mode.REFUSE):
        assert part_cache.fetch(*fetch) == files[0]


def test_parts_of_other_stores_are_evicted_least_recently_used_first_and_own_parts_never(uri: str, cache: Path) -> None:
    store = open_with(uri, 1)
    parts = parts_of(store)
    size = max(part.bytes for _, part in parts)
    cache.mkdir(parents=True)
    for age, name in enumerate(["newest", "older", "oldest"]):
        (cache / f"{name}.parquet").write_bytes(bytes(size))
        used = time.time() - 1000 * age
        os.utime(cache / f"{name}.parquet", (used, used))
    in_use = all_of(store)
    part_cache.fetch(CacheConfig(gigabytes=4 * size / 1e9), parts[:2], in_use)
    assert {file.stem for file in cache.glob("*.parquet")} == {"newest", "older", *(p.sha256 for _, p in parts[:2])}
    part_cache.fetch(CacheConfig(gigabytes=2 * size / 1e9), parts, in_use)
    assert {file.stem for file in cache.glob("*.parquet")} == {part.sha256 for _, part in parts[:2]}


@pytest.mark.parametrize("position", [3000, -20])
def test_a_damaged_copy_is_not_trained_on_and_is_replaced(
    uri: str, parts_of_two: Store, cache: Path, position: int
) -> None:
    open_with(uri, 1).split("train")
    for copy in cache.glob("*.parquet"):
        flip_bit(copy, position)
    assert_same(open_with(uri, 1).split("train"), parts_of_two.split("train"))
    next_run = open_with(uri, 1).split("train")
    assert {file_digest(file) for file in next_run.files} == {part.sha256 for _, part in parts_of(open_store(uri))}
    assert not any(isinstance(file, RemotePath) for file in next_run.files)


def test_a_copy_evicted_while_it_is_read_is_read_from_the_store(uri: str, parts_of_two: Store, cache: Path) -> None:
    reader = open_with(uri, 1).split("train")
    reader._opened.clear()
    for copy in cache.glob("*.parquet"):
        copy.unlink()
    assert_same(reader, parts_of_two.split("train"))


@pytest.mark.parametrize("known_before", [True, False])
def test_a_full_disk_stops_only_the_caching(
    uri: str,
    parts_of_two: Store,
    small_disk: Callable[[int], Path],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    known_before: bool,
) -> None:
    disk = small_disk(1)
    (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free - 40_000))
    if not known_before:
        monkeypatch.setattr(part_cache, "LEFT_FREE", -10.0)
    reader = open_store(uri, DataConfig(cache=CacheConfig(folder=str(disk / "cache")))).split("train")
    assert any(isinstance(file, RemotePath) for file in reader.files)
    said = capfd.readouterr().err
    assert f"do not fit in {disk}/cache and are read from the store row by row" in said
    assert (f"the disk of {disk}/cache is full" in said) is not known_before
    assert_same(reader, parts_of_two.split("train"))
    assert not list((disk / "cache").glob("*.partial"))


def test_a_cache_that_cannot_be_created_is_an_error_that_says_what_to_do(uri: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config = DataConfig(cache=CacheConfig(folder=str(tmp_path / "file" / "cache")))
    with pytest.raises(StoreError, match=r"data.cache.folder .* cannot be created: .* --data.cache.gigabytes 0"):
        open_store(uri, config).split("train")
