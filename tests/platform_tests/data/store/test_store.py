import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from gscnn.config import LossConfig
from gscnn.constants import IGNORE_INDEX
from gscnn_platform.config import DataConfig, EdgeConfig, ExperimentConfig, VerifyConfig
from gscnn_platform.data.loader import batches
from gscnn_platform.data.store import SplitReader, StaleStoreError, Store, StoreError, open_store
from gscnn_platform.data.store.manifest import MANIFEST, Identity, NoStoreError
from gscnn_platform.data.store.part_building import to_arrays
from gscnn_platform.data.store.verification import verify
from tests.stores import TINY_STREETS, build_store, edit_manifest, without_anchors


@pytest.fixture
def copy(streets_store: Store, tmp_path: Path) -> Path:
    """A store of one's own, to damage."""
    return shutil.copytree(str(streets_store.path), tmp_path / "store")


def test_rows_hold_exactly_what_was_written(streets_store: Store) -> None:
    reader = streets_store.split("train")
    table = TINY_STREETS.describe(None).label_table
    for index, sample in enumerate(TINY_STREETS.samples(None, "train")):
        written, read = to_arrays(sample, table, EdgeConfig()), reader.read(index, anchors=True)
        assert reader.names[index] == sample.name
        assert reader.sizes[index] == written.label.shape
        for key in ("image", "label", "gradient", "boundary", "anchors"):
            np.testing.assert_array_equal(getattr(read, key), getattr(written, key))


def test_class_weights_are_by_the_labels_of_the_split(streets_store: Store) -> None:
    for split in ("train", "val"):
        reader = streets_store.split(split)
        labels = np.concatenate([reader.read(index).label.flatten() for index in range(len(reader))])
        shares = np.bincount(labels, minlength=256)[:9] / np.count_nonzero(labels != IGNORE_INDEX)
        weights = streets_store.class_weights(LossConfig(class_weights="inverse_log"), split)
        assert weights is not None
        present = shares > 0
        np.testing.assert_allclose(weights[present], 1 / np.log(1.02 + shares[present]))
    assert streets_store.class_weights(LossConfig(class_weights="image"), "train") is None


def test_a_reader_works_after_pickling_as_loader_processes_need(streets_store: Store) -> None:
    reader = streets_store.split("val")
    expected = reader.read(1).image
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader)).read(1).image, expected)


def test_the_fingerprint_depends_on_settings_and_not_on_the_path(streets_store: Store, tmp_path: Path) -> None:
    again = build_store(tmp_path / "elsewhere")
    other = build_store(tmp_path / "other", edges=EdgeConfig(radius=3))
    assert again.manifest.fingerprint == streets_store.manifest.fingerprint != other.manifest.fingerprint


def test_a_folder_without_manifest_is_not_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"has no manifest.json.*python -m jobs.precompute"):
        open_store(tmp_path)
    with pytest.raises(StoreError, match="no such folder"):
        open_store(tmp_path / "nowhere")


def test_a_folder_near_a_store_or_of_another_program_gets_harmless_advice(copy: Path) -> None:
    for folder, message in (
        (copy / "train", rf"train is a folder of a store: name the store, {copy}$"),
        (copy / MANIFEST, rf"{MANIFEST} is not a store, it is a file: name the folder that jobs.precompute wrote$"),
        (copy.parent, rf"{copy.parent} is not a store, it has no {MANIFEST}: name the folder that jobs.precompute"),
    ):
        with pytest.raises(StoreError, match=message) as caught:
            open_store(folder)
        assert "python -m" not in str(caught.value)


@pytest.mark.parametrize("content", ["{}", "[]", "null", '{"name": "my app", "icons": []}'])
def test_the_manifest_of_another_program_is_not_a_damaged_store(copy: Path, content: str) -> None:
    (copy / MANIFEST).write_text(content)
    with pytest.raises(NoStoreError, match=rf"{MANIFEST} belongs to another program, and {copy} is not a store"):
        open_store(copy)


def test_a_manifest_without_a_field_is_reported_in_one_line(copy: Path) -> None:
    edit_manifest(copy, lambda content: content["identity"].pop("label_table"))
    with pytest.raises(
        StoreError, match=rf"{MANIFEST} is not a manifest: identity\.label_table is missing; rebuild"
    ) as caught:
        open_store(copy)
    assert "\n" not in str(caught.value)


def test_a_manifest_without_read_permission_is_not_reported_as_damaged(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(StoreError, match=rf"{MANIFEST} cannot be read: Permission denied$"):
        open_store(copy)


def test_a_stale_store_error_names_the_field_and_the_command_that_fixes_it(streets_store: Store) -> None:
    expected = DataConfig(edges=EdgeConfig(radius=3))
    with pytest.raises(StaleStoreError, match=r"edges.radius is 2 in the store, expected 3") as error:
        open_store(streets_store.path, expected)
    command = f"python -m jobs.precompute streets --out {streets_store.path} --edges.radius 3 --overwrite"
    assert command in str(error.value)


def test_another_class_count_names_the_flag_that_fixes_it(streets_store: Store) -> None:
    with pytest.raises(StaleStoreError, match=r"has 9 classes .* --model.num-classes 9"):
        open_store(streets_store.path, num_classes=11)


def test_a_pinned_fingerprint_rejects_other_data(streets_store: Store) -> None:
    with pytest.raises(StaleStoreError, match="this run expects 0123"):
        open_store(streets_store.path, DataConfig(fingerprint="0123"))
    assert open_store(streets_store.path, DataConfig(fingerprint=streets_store.manifest.fingerprint))


def test_a_missing_split_names_those_that_exist(streets_store: Store) -> None:
    with pytest.raises(StaleStoreError, match="no split 'dev' to validate on; it has: train, val, test"):
        open_store(streets_store.path, DataConfig(val_split="dev"))


def test_a_store_of_another_schema_is_stale(copy: Path) -> None:
    edit_manifest(copy, lambda content: content["identity"].update(schema_version=99))
    with pytest.raises(StaleStoreError, match=rf"schema_version is 99, .* jobs.precompute streets --out {copy} --over"):
        open_store(copy)


def test_a_store_without_checksums_is_an_error_with_the_command_that_rebuilds_it(tmp_path: Path) -> None:
    folder = build_store(tmp_path / "store", edges=EdgeConfig(radius=3)).path
    content = json.loads((folder / MANIFEST).read_text())
    del content["store_version"], content["checksum"]
    (folder / MANIFEST).write_text(json.dumps(content))
    command = f"python -m jobs.precompute streets --out {folder} --edges.radius 3 --overwrite"
    with pytest.raises(StaleStoreError, match=f"store_version is 1, this code reads 2 and 3: .* {command}$"):
        open_store(folder)


def test_a_store_from_before_anchors_is_read_as_ever_and_refused_only_where_they_are_needed(
    streets_store: Store, copy: Path, tiny_run: ExperimentConfig
) -> None:
    without_anchors(copy)
    store = open_store(copy, tiny_run.data)
    assert store.manifest.fingerprint == streets_store.manifest.fingerprint
    assert not verify(VerifyConfig(store=str(copy))).faults
    for one, other in zip(
        batches(store.split("train"), tiny_run), batches(streets_store.split("train"), tiny_run), strict=True
    ):
        torch.testing.assert_close(one.image, other.image, rtol=0, atol=0)
    command = f"python -m jobs.precompute streets --out {copy} --overwrite"
    with pytest.raises(StaleStoreError) as error:
        open_store(copy, tiny_run.data.model_copy(update={"class_uniform": 0.5}))
    assert str(error.value).splitlines() == [
        f"{copy} has no anchors of classes, which data.class_uniform 0.5 needs",
        f"rebuild it, with the same fingerprint: {command}",
        "or train without: --data.class-uniform 0",
    ]


def test_the_samples_that_have_a_class_are_those_whose_labels_do(tmp_path: Path) -> None:
    reader = build_store(tmp_path / "store", part_rows=4).split("train")
    expected: dict[int, list[int]] = {}
    for index in range(len(reader)):
        for train_id in set(reader.read(index).label.ravel().tolist()) - {255}:
            expected.setdefault(train_id, []).append(index)
    assert {train_id: of_class.tolist() for train_id, of_class in reader.having.items()} == expected
    some = reader.subset([4, 1])
    assert {train_id: of_class.tolist() for train_id, of_class in some.having.items()} == {
        train_id: [[4, 1].index(index) for index in (4, 1) if index in of_class]
        for train_id, of_class in expected.items()
        if {4, 1} & set(of_class)
    }


def test_the_fingerprint_is_the_one_that_stores_had_before_checksums() -> None:
    identity = Identity(
        schema_version=1,
        dataset="streets",
        edges=EdgeConfig(),
        ignore_index=255,
        classes=("road", "car"),
        colours=((1, 2, 3), (4, 5, 6)),
        label_table={0: 0, 1: 1, 255: 255},
        content="0" * 64,
    )
    assert identity.fingerprint == "836f8172b78f81e1"


def test_a_reader_of_very_many_parts_keeps_few_files_open(
    streets_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gscnn_platform.data.store.store.MOST_OPEN", 2)
    reader = SplitReader([streets_store.path / split / "part-0.parquet" for split in ("train", "val", "test")], "")
    first, *_, again = [reader.read(index).label for index in (0, 1, 2, 0)]
    np.testing.assert_array_equal(first, again)
    opened = [file.path for file in psutil.Process().open_files()]
    assert sum(path.startswith(str(streets_store.path)) for path in opened) == 2
