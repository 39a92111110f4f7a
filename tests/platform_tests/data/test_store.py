import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from gscnn_platform.config import DataConfig, EdgeConfig
from gscnn_platform.data.precompute import to_arrays
from gscnn_platform.data.store import MANIFEST, StaleStoreError, Store, StoreError, open_store
from tests.stores import TINY_STREETS, build_store


@pytest.fixture
def copy(streets_store: Store, tmp_path: Path) -> Path:
    """A store of one's own, to damage."""
    return shutil.copytree(streets_store.path, tmp_path / "store")


def test_rows_hold_exactly_what_was_written(streets_store: Store) -> None:
    reader = streets_store.split("train")
    table = TINY_STREETS.describe(None).label_table
    for index, sample in enumerate(TINY_STREETS.samples(None, "train")):
        written, read = to_arrays(sample, table, EdgeConfig()), reader.read(index)
        assert reader.names[index] == sample.name
        assert reader.sizes[index] == written.label.shape
        for key in ("image", "label", "gradient", "boundary"):
            np.testing.assert_array_equal(getattr(read, key), getattr(written, key))


def test_a_reader_works_after_pickling_as_loader_processes_need(streets_store: Store) -> None:
    reader = streets_store.split("val")
    expected = reader.read(1).image
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader)).read(1).image, expected)


def test_the_fingerprint_depends_on_settings_and_not_on_the_place(streets_store: Store, tmp_path: Path) -> None:
    again = build_store(tmp_path / "elsewhere")
    other = build_store(tmp_path / "other", edges=EdgeConfig(radius=3))
    assert again.manifest.fingerprint == streets_store.manifest.fingerprint != other.manifest.fingerprint


def test_a_folder_without_manifest_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"has no manifest.json.*python -m jobs.precompute"):
        open_store(tmp_path)
    with pytest.raises(StoreError, match="no such folder"):
        open_store(tmp_path / "nowhere")


def test_a_stale_store_names_the_field_and_the_command_that_mends_it(streets_store: Store) -> None:
    expected = DataConfig(edges=EdgeConfig(radius=3))
    with pytest.raises(StaleStoreError, match=r"edges.radius is 2 in the store, 3 is asked for") as error:
        open_store(streets_store.path, expected)
    command = f"python -m jobs.precompute streets --out {streets_store.path} --edges.radius 3 --overwrite"
    assert command in str(error.value)


def test_another_class_count_names_the_flag_that_mends_it(streets_store: Store) -> None:
    with pytest.raises(StaleStoreError, match=r"has 9 classes .* --model.num-classes 9"):
        open_store(streets_store.path, num_classes=11)


def test_a_pinned_fingerprint_refuses_other_data(streets_store: Store) -> None:
    with pytest.raises(StaleStoreError, match="this run asks for 0123"):
        open_store(streets_store.path, DataConfig(fingerprint="0123"))
    assert open_store(streets_store.path, DataConfig(fingerprint=streets_store.manifest.fingerprint))


def test_a_missing_split_names_those_that_exist(streets_store: Store) -> None:
    with pytest.raises(StaleStoreError, match="no split 'dev'; it has: train, val, test"):
        open_store(streets_store.path, DataConfig(val_split="dev"))


def test_a_missing_or_cut_part_is_found_on_opening(copy: Path) -> None:
    part = copy / "val" / "part-0.parquet"
    content = part.read_bytes()
    part.write_bytes(content[:-5])
    with pytest.raises(StoreError, match=r"part-0.parquet has \d+ bytes, the manifest says \d+"):
        open_store(copy)
    part.unlink()
    with pytest.raises(StoreError, match=r"part-0.parquet is missing"):
        open_store(copy)


def test_a_flipped_byte_is_an_error_that_names_the_file_and_sample(copy: Path) -> None:
    part = copy / "train" / "part-0.parquet"
    content = bytearray(part.read_bytes())
    content[200:260] = bytes(60)
    part.write_bytes(content)
    reader = open_store(copy).split("train")
    with pytest.raises(StoreError, match=r"part-0.parquet, row 0 \(.*\).*damaged"):
        reader.read(0)


def test_an_edited_manifest_is_refused(copy: Path) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["identity"]["classes"][0] = "heaven"
    (copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match="it was edited"):
        open_store(copy)


def test_a_store_of_another_schema_is_stale(copy: Path) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["identity"]["schema_version"] = 99
    (copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(StaleStoreError, match="schema_version is 99"):
        open_store(copy)
