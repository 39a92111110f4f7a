"""Stores that are named by URI, on a local S3 endpoint: read whole, cached, checked, and with patience."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from gscnn_platform import remote_errors
from gscnn_platform.config import ExperimentConfig, VerifyConfig, with_overrides
from gscnn_platform.data.formats import FORMATS
from gscnn_platform.data.loader import batches, whole_images
from gscnn_platform.data.store import Store, StoreError, open_store
from gscnn_platform.data.store.verification import verify
from gscnn_platform.paths import AnyPath, RemotePath, as_path, upload
from tests.layouts import write_camvid, write_cityscapes, write_folder
from tests.remote_stores import assert_same, open_with, parts_of
from tests.s3 import Endpoint, Mode
from tests.stores import flip_bit


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
