"""What every entry of FORMATS must do, on a tiny dataset of its own layout."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats import FORMATS, DatasetError, DatasetFormat, remap
from gscnn_platform.data.formats.base import FileSample
from gscnn_platform.inspection.sources import open_source
from tests.layouts import (
    write_ade20k,
    write_bdd100k,
    write_camvid,
    write_camvid_original,
    write_cityscapes,
    write_coco,
    write_folder,
    write_labelme,
    write_union,
    write_vistas,
    write_voc,
)

Write = Callable[[Path], Path]

LAYOUTS: dict[str, tuple[Write, ...]] = {
    "ade20k": (write_ade20k,),
    "bdd100k": (write_bdd100k,),
    "camvid": (write_camvid,),
    "camvid-original": (write_camvid_original,),
    "cityscapes": (write_cityscapes,),
    "folder": (write_folder, write_labelme, write_coco),
    "union": (write_union,),
    "vistas": (write_vistas,),
    "voc": (write_voc,),
}
"""Format -> what writes its layouts: a format that reads files needs one here, in tests/layouts.py."""

every_format = pytest.mark.parametrize("name", FORMATS)
every_layout = pytest.mark.parametrize(
    ("name", "write"), [(name, write) for name in FORMATS for write in LAYOUTS.get(name, (None,))]
)


@pytest.fixture
def root(write: Write | None, tmp_path: Path) -> Path | None:
    return None if write is None else write(tmp_path / "raw")


def test_every_format_is_registered_under_its_own_name_and_has_a_layout() -> None:
    assert {name: type(entry).name for name, entry in FORMATS.items()} == {name: name for name in FORMATS}
    assert {name for name, entry in FORMATS.items() if entry.needs_root} == set(LAYOUTS)


@every_format
def test_its_settings_survive_json(name: str) -> None:
    entry = FORMATS[name]
    assert isinstance(entry, DatasetFormat)
    assert type(entry).model_validate_json(entry.model_dump_json()) == entry


@every_layout
def test_its_splits_have_samples_sorted_by_names_that_are_unique(name: str, root: Path | None) -> None:
    description = FORMATS[name].describe(root)
    assert {"train", "val"} <= set(description.splits)
    assert description == FORMATS[name].describe(root)
    for split in description.splits:
        names = [sample.name for sample in FORMATS[name].samples(root, split)]
        assert names
        assert names == sorted(set(names))


@every_layout
def test_its_samples_are_an_image_and_a_label_of_classes_and_void(name: str, root: Path | None) -> None:
    description = FORMATS[name].describe(root)
    for sample in FORMATS[name].samples(root, "train")[:3]:
        image, label = sample.read()
        assert (image.dtype, image.ndim, image.shape[2]) == (np.uint8, 3, 3)
        assert label.dtype in (np.uint8, np.uint16)
        assert label.shape == image.shape[:2]
        train_ids = set(np.unique(remap(label, description.label_table)).tolist())
        assert train_ids <= {*range(len(description.classes)), IGNORE_INDEX}
        assert train_ids - {IGNORE_INDEX}


@every_layout
def test_its_description_states_the_colours_that_its_samples_read(name: str, root: Path | None) -> None:
    stated = FORMATS[name].describe(root).label_colours
    for sample in FORMATS[name].samples(root, "train"):
        if isinstance(sample, FileSample):
            assert (dict(sample.colours.train_ids) if sample.colours else {}) == stated


@every_layout
def test_a_sample_that_travels_to_a_worker_reads_the_same_there(name: str, root: Path | None) -> None:
    sample = FORMATS[name].samples(root, "train")[0]
    arrived = pickle.loads(pickle.dumps(sample))
    assert (arrived.name, arrived.digest()) == (sample.name, sample.digest())
    for ours, theirs in zip(sample.read(), arrived.read(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@every_layout
def test_digests_distinguish_samples_and_do_not_depend_on_paths(name: str, root: Path | None, tmp_path: Path) -> None:
    digests = [sample.digest() for sample in FORMATS[name].samples(root, "train")[:3]]
    assert len(set(digests)) == len(digests)
    assert all(len(digest) == 64 and int(digest, 16) >= 0 for digest in digests)
    moved = None if root is None else shutil.copytree(root, tmp_path / "elsewhere" / "raw")
    assert [sample.digest() for sample in FORMATS[name].samples(moved, "train")[:3]] == digests


@every_layout
def test_a_missing_split_is_rejected_with_the_existing_splits(name: str, root: Path | None) -> None:
    with pytest.raises(DatasetError, match=r"split: 'dev' does not exist in .*train"):
        FORMATS[name].samples(root, "dev")


@every_format
def test_a_missing_root_is_rejected_if_one_is_needed(name: str, tmp_path: Path) -> None:
    entry = FORMATS[name]
    for missing in (None, tmp_path / "nowhere"):
        if entry.needs_root:
            with pytest.raises(DatasetError, match=r"^root: "):
                entry.describe(missing)
        else:
            assert entry.describe(missing) == entry.describe(None)


@every_layout
def test_its_layout_is_that_of_no_other_format(name: str, root: Path | None) -> None:
    if root is not None:
        source = open_source(str(root))
        assert (source.dataset, source.kind) == (name, "raw dataset")
