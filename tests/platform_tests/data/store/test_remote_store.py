"""Stores that are named by URI, on a local S3 endpoint: read whole, cached, checked, and with patience."""

import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from gscnn_platform import remote_errors
from gscnn_platform.config import CacheConfig, DataConfig, ExperimentConfig, VerifyConfig, with_overrides
from gscnn_platform.data.formats import FORMATS
from gscnn_platform.data.loader import batches, whole_images
from gscnn_platform.data.store import SplitReader, Store, StoreError, open_store, part_cache
from gscnn_platform.data.store.manifest import Part
from gscnn_platform.data.store.parts import file_digest
from gscnn_platform.data.store.verification import verify
from gscnn_platform.paths import AnyPath, RemotePath, as_path, below, upload
from tests.layouts import write_camvid, write_cityscapes, write_folder
from tests.s3 import Endpoint, Mode
from tests.stores import build_store, flip_bit


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "gscnn"


@pytest.fixture(scope="session")
def parts_of_two(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Six training scenes in three parts."""
    return build_store(tmp_path_factory.mktemp("parts") / "store", part_rows=2)


def put(folder: Path, to: RemotePath) -> str:
    for file in folder.rglob("*"):
        if file.is_file():
            upload(file, to / str(below(file, folder)))
    return str(to)


@pytest.fixture
def uri(parts_of_two: Store, remote: str) -> str:
    """`parts_of_two` on the endpoint."""
    assert isinstance(parts_of_two.path, Path)
    place = as_path(remote)
    assert isinstance(place, RemotePath)
    return put(parts_of_two.path, place)


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


@pytest.mark.parametrize(("room", "cached"), [(1.0, 3), (0.0, 0), (0.00004, 1)])
def test_a_remote_store_equals_the_local_one_however_much_of_it_is_cached(
    uri: str, parts_of_two: Store, cache: Path, room: float, cached: int
) -> None:
    if cached == 1:
        room = 1.5 * parts_of_two.manifest.splits["train"].parts[0].bytes / 1e9
    reader = open_with(uri, room).split("train")
    assert len(list(cache.glob("*.parquet"))) == cached
    assert sum(isinstance(file, RemotePath) for file in reader.files) == 3 - cached
    assert_same(reader, parts_of_two.split("train"))


def test_reading_a_remote_row_is_one_request_for_the_requested_columns(uri: str, s3: Endpoint) -> None:
    reader = open_with(uri, 0).split("train")
    for index in range(len(reader)):
        reader.read(index)  # Opens the parts.
    s3.reads = s3.answered = 0
    whole = [reader.read(index) for index in range(len(reader))]
    assert s3.reads == len(reader)
    of_all, s3.answered = s3.answered, 0
    assert all(reader.read(index, boundary=False).boundary is None for index in range(len(reader)))
    assert s3.reads == 2 * len(reader)
    assert s3.answered < of_all
    assert whole


@pytest.mark.parametrize("processes", [0, 2])
def test_batches_of_a_remote_store_equal_those_of_the_local_one(
    uri: str, parts_of_two: Store, tiny_run: ExperimentConfig, processes: int
) -> None:
    changes = {"data.loader_processes": processes, "data.cache.gigabytes": 0, "data.class_uniform": 0.5}
    config = with_overrides(tiny_run, changes)
    here = list(batches(parts_of_two.split("train"), config))
    there = list(batches(open_store(uri, config.data).split("train"), config))
    assert len(here) == len(there) == 6
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.boundary, other.boundary)
    assert len(list(whole_images(open_with(uri, 1).split("val"), loader_processes=processes))) == 3


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


def test_a_part_damaged_in_the_store_is_an_error_that_names_it(parts_of_two: Store, uri: str, tmp_path: Path) -> None:
    place, part = parts_of(open_store(uri))[1]
    copy = tmp_path / "copy"
    copy.write_bytes(place.read_bytes())
    flip_bit(copy, 3000)
    upload(copy, place)
    with pytest.raises(StoreError, match=rf"{place} differs from what .*; python -m jobs.verify --store {uri} lists"):
        open_with(uri, 1).split("train")
    reader = open_with(uri, 0).split("train")
    with pytest.raises(StoreError, match=rf"{place}, row 0 \(sample .*\) cannot be read"):
        [reader.read(index) for index in range(len(reader))]
    faults = verify(VerifyConfig(store=uri)).faults
    assert {fault.file for fault in faults} == {part.file}
    copy.write_bytes(copy.read_bytes()[:-1])
    upload(copy, place)
    with pytest.raises(StoreError, match=rf"{place} has {part.bytes - 1} bytes, the manifest says {part.bytes}"):
        open_store(uri)
    place.unlink()
    with pytest.raises(StoreError, match=f"{place} is missing"):
        open_store(uri)


def test_a_connection_that_breaks_during_a_fetch_is_retried(uri: str, parts_of_two: Store, s3: Endpoint) -> None:
    store = open_with(uri, 1)
    s3.cut_after, s3.cuts = 10_000, 2
    assert_same(store.split("train"), parts_of_two.split("train"))
    assert s3.cuts == 0
    remote = open_with(uri, 0).split("train")
    s3.cut_after, s3.cuts = 5_000, 3
    assert_same(remote, parts_of_two.split("train"))
    assert s3.cuts == 0


def test_an_endpoint_that_fails_for_a_while_is_retried(uri: str, parts_of_two: Store, s3: Endpoint) -> None:
    reader = open_with(uri, 0).split("train")
    s3.mode = Mode.REFUSE
    threading.Timer(7, s3.recover).start()
    assert_same(reader, parts_of_two.split("train"))


@pytest.mark.parametrize(
    ("format_", "write"), [("camvid", write_camvid), ("cityscapes", write_cityscapes), ("folder", write_folder)]
)
def test_a_raw_dataset_on_the_endpoint_gives_the_same_store_as_a_local_one(
    tmp_path: Path, remote: str, format_: str, write: Callable[[AnyPath], AnyPath]
) -> None:
    here, there = write(tmp_path / "raw"), write(as_path(remote))
    dataset = FORMATS[format_]
    assert dataset.describe(there) == dataset.describe(here)
    for split in dataset.describe(here).splits:
        samples = list(zip(dataset.samples(here, split), dataset.samples(there, split), strict=True))
        assert samples
        for one, other in samples:
            assert (one.name, one.digest()) == (other.name, other.digest())
            for array, read in zip(one.read(), other.read(), strict=True):
                np.testing.assert_array_equal(array, read)


def test_an_endpoint_that_does_not_answer_is_an_error_that_names_the_store(uri: str, s3: Endpoint) -> None:
    with s3.failing(Mode.REFUSE), pytest.raises(StoreError, match=f"{uri} cannot be read: .*NETWORK_CONNECTION"):
        open_store(uri)


def test_a_store_that_becomes_unreachable_is_not_reported_as_damaged(
    uri: str, s3: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_errors, "FIRST_PAUSE", 1000.0)
    reader = open_with(uri, 0).split("train")
    with (
        s3.failing(Mode.REFUSE),
        pytest.raises(StoreError, match=r"cannot be read: .*; once the store answers"),
    ):
        reader.read(0)


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
