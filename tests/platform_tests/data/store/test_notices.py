"""What is said of a store that lacks something, and whether what is advised works when it is typed."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gscnn_platform.command_line import choose
from gscnn_platform.config import DataConfig, EdgeConfig
from gscnn_platform.data.formats import FORMATS
from gscnn_platform.data.formats.folder import Folder
from gscnn_platform.data.precompute import PrecomputeConfig
from gscnn_platform.data.store import Identity, StaleStoreError, Store, open_store
from gscnn_platform.data.store.manifest import precompute_command
from gscnn_platform.data.store.notices import notices, turned_notice, void_notices, weight_notices
from gscnn_platform.data.store.part_building import BuildJob, Chunk, build_part
from tests.layouts import write_folder, write_image
from tests.stores import build_store, edit_manifest


def test_a_store_that_lacks_nothing_has_no_notices(streets_store: Store) -> None:
    assert notices(streets_store.manifest) == ()


@pytest.mark.parametrize(
    ("splits", "another"),
    [
        (("train",), ""),
        (("train", "valid"), "--data.val-split valid"),
        (("train", "my val"), "--data.val-split 'my val'"),
    ],
)
def test_a_store_without_val_says_what_training_can_do(tmp_path: Path, splits: tuple[str, ...], another: str) -> None:
    store = build_store(tmp_path / "store", Folder(), write_folder(tmp_path / "raw", splits=splits, frames=4))
    [notice] = notices(store.manifest)
    assert notice.startswith("there is no split val, which training validates on: ")
    assert another in notice
    assert "--data.val-share 0.1" in notice and "--data.val-split None" in notice
    for data in (DataConfig(val_share=0.1), DataConfig(val_split=None), DataConfig(val_split=splits[-1])):
        open_store(store.path, data)


def test_labels_that_are_void_everywhere_are_counted_by_split(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "raw", frames=3)
    for name in ("train_0", "train_2"):
        write_image(root / f"labels/train/{name}.png", np.full((40, 60), 255, np.uint8))
    store = build_store(tmp_path / "store", Folder(), root)
    told = (
        "2 of 3 labels of split train are entirely void: nothing is learned from these samples, and they have no score"
    )
    assert notices(store.manifest) == (told,)
    assert list(void_notices(store.manifest, ["val"])) == []
    samples = Folder().samples(root, "train")
    (tmp_path / "parts/train").mkdir(parents=True)
    job = BuildJob({"train": samples}, tmp_path / "parts", "part-", EdgeConfig(), {0: 0, 1: 1, 255: 255})
    assert build_part(Chunk(split="train", start=0, stop=3), job).all_void == 2


def test_rotated_images_are_counted_in_a_notice() -> None:
    assert list(turned_notice(0)) == []
    assert list(turned_notice(3)) == [
        "3 samples are rotated upright by their EXIF orientation; their labels must be upright as well"
    ]


def test_an_older_store_of_one_class_gets_advice_that_works(
    tmp_path: Path,
) -> None:
    build_store(tmp_path / "store", Folder(), write_folder(tmp_path / "raw"))

    def with_one_class(manifest: dict[str, Any]) -> None:
        manifest["identity"] |= {"classes": ["road"], "colours": [[1, 2, 3]], "label_table": {"0": 0}}
        manifest["fingerprint"] = Identity.model_validate(manifest["identity"]).fingerprint

    edit_manifest(tmp_path / "store", with_one_class)
    with pytest.raises(StaleStoreError, match="has only the class road, and a model needs two: add the background"):
        open_store(tmp_path / "store", num_classes=11)


def test_masks_of_0_and_255_without_a_table_get_a_notice(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "raw", classes={"classes": ["background", "road"]})
    for path in (root / "labels").rglob("*.png"):
        write_image(path, np.pad(np.zeros((40, 30), np.uint8), ((0, 0), (0, 30)), constant_values=255))
    store = build_store(tmp_path / "store", Folder(), root)
    assert notices(store.manifest, ["said before"]) == (
        "said before",
        "no label of split train has class road, so no model can learn it; check the raw values that map to it",
    )
    [notice] = weight_notices(store.manifest, "train", "median_frequency")
    assert notice == (
        "no label of split train has class road: with loss.class_weights median_frequency, it has the largest weight "
        "of the other classes"
    )
    for needs_no_pixels in (None, "image", (1, 2)):
        assert list(weight_notices(store.manifest, "train", needs_no_pixels)) == []


@pytest.mark.parametrize("edges", [EdgeConfig(), EdgeConfig(gradient="sobel", radius=3, void_edges=True)])
@pytest.mark.parametrize("out", ["my store", "o'brien/$HOME", "plain"])
def test_the_command_that_rebuilds_a_store_is_read_back_as_its_settings(
    monkeypatch: pytest.MonkeyPatch, edges: EdgeConfig, out: str
) -> None:
    chosen = Folder(share=0.1, only=("day one/*", "list.txt"), folds=5, fold=0)
    settings = json.loads(chosen.model_dump_json(exclude_defaults=True))
    words = shlex.split(precompute_command("folder", out, edges, "--overwrite", settings=settings))
    assert words[:3] == ["python", "-m", "jobs.precompute"]
    monkeypatch.setattr(sys, "argv", words[2:])
    datasets = {name: (name, PrecomputeConfig(format=format_, out="store")) for name, format_ in FORMATS.items()}
    config = choose(datasets, "", "dataset")
    assert (config.out, config.edges, config.overwrite, config.format) == (out, edges, True, chosen)
