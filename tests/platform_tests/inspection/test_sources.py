"""A store is recognized, a raw dataset's format is guessed from its layout, and a store reads as its raw dataset."""

from pathlib import Path

import numpy as np
import pytest

from gscnn_platform.data.formats import FORMATS, DatasetError
from gscnn_platform.inspection.sources import Read, open_source
from gscnn_platform.inspection.survey import survey
from tests.layouts import write_camvid, write_cityscapes
from tests.stores import build_store


def test_a_store_and_its_raw_dataset_measure_alike(tmp_path: Path) -> None:
    root = write_camvid(tmp_path / "raw", frames=5)
    store = build_store(tmp_path / "store", FORMATS["camvid"], root, part_rows=2)
    raw, stored = survey(open_source(str(root))), survey(open_source(str(store.path)))
    assert stored.source.kind == f"store, fingerprint {store.manifest.fingerprint}"
    assert {name: split.pixels for name, split in stored.manifest.splits.items()} == {
        name: split.pixels for name, split in store.manifest.splits.items()
    }
    assert stored.manifest.splits["val"].void_pixels == store.manifest.splits["val"].void_pixels
    for one, other in zip(raw.samples, stored.samples, strict=True):
        assert (one.split, one.name, one.index, one.size) == (other.split, other.name, other.index, other.size)
        assert (one.void, one.edges, one.unseen) == (other.void, other.edges, other.unseen)
        assert one.likeness.digest == other.likeness.digest
        np.testing.assert_array_equal(one.pixels, other.pixels)


def test_max_samples_are_spread_over_each_split(tmp_path: Path) -> None:
    root = write_camvid(tmp_path / "raw", frames=10)
    found = survey(open_source(str(root)), max_samples=6)
    assert [(each.split, each.index) for each in found.samples] == [
        *(("train", index) for index in (0, 3, 6)),
        *(("val", index) for index in (0, 3, 6)),
    ]
    assert found.unread == 14


def test_samples_are_read_by_index(tmp_path: Path) -> None:
    root = write_camvid(tmp_path / "raw", frames=4)
    store = build_store(tmp_path / "store", FORMATS["camvid"], root, part_rows=3)
    both = [open_source(str(path)).read("val", [3, 1]) for path in (root, store.path)]
    for one, other in zip(*both, strict=True):
        assert isinstance(one, Read) and isinstance(other, Read)
        np.testing.assert_array_equal(one.arrays.image, other.arrays.image)
        np.testing.assert_array_equal(one.arrays.label, other.arrays.label)


def test_what_cannot_be_opened_is_said_with_what_to_type(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    store = build_store(tmp_path / "store").path
    cases = {
        (str(tmp_path / "no"), None): "there is no such folder: pass the folder of a store or of a raw dataset",
        (str(tmp_path / "empty"), None): "the layout of no format (ade20k, ",
        (str(tmp_path / "empty"), "folder"): "classes.yaml: the file is missing; write one with",
        (str(tmp_path / "empty"), "camvit"): "did you mean camvid?",
        (str(store), "camvid"): "is a store, which knows its format: remove it",
        (str(store / "train"), None): f"is a folder of a store: name the store, {store}",
        ("streets", None): "python -m jobs.precompute streets --out data/streets",
    }
    for (data, name), message in cases.items():
        with pytest.raises(DatasetError) as raised:
            open_source(data, name)
        assert message in str(raised.value)
        assert len(str(raised.value).splitlines()) <= 3


def test_a_folder_with_two_layouts_asks_for_the_format(tmp_path: Path) -> None:
    write_camvid(tmp_path / "data")
    write_cityscapes(tmp_path / "data")
    with pytest.raises(DatasetError, match="has the layouts of camvid, cityscapes: choose one, with --format NAME"):
        open_source(str(tmp_path / "data"))
    assert open_source(str(tmp_path / "data"), "cityscapes").dataset == "cityscapes"
