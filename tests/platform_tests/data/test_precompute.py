import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gscnn.edges import boundary_map, image_gradient
from gscnn_platform.config import EdgeConfig
from gscnn_platform.data.disk_full import StorageError
from gscnn_platform.data.formats import FORMATS
from gscnn_platform.data.formats.base import DatasetError
from gscnn_platform.data.formats.camvid import CamVid
from gscnn_platform.data.precompute import BadDatasetError, PrecomputeConfig, PrecomputeResult, precompute
from gscnn_platform.data.store import StoreError, open_store
from gscnn_platform.paths import as_path, below
from tests.layouts import write_camvid, write_cityscapes, write_folder, write_union
from tests.s3 import Endpoint, Mode
from tests.stores import TINY_STREETS, flip_bit, without_anchors

pytestmark = pytest.mark.usefixtures("ray_cluster")


def build(root: Path | None, out: Path | str, format_: str = "camvid", **fields: Any) -> PrecomputeResult:
    config = PrecomputeConfig(format=FORMATS[format_], out=str(out), root=None if root is None else str(root), **fields)
    return precompute(config)


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if "partial" in path.name or ".old" in path.name]


def test_a_store_holds_every_sample_remapped_with_edges_and_counts(tmp_path: Path) -> None:
    root = write_camvid(tmp_path / "raw", frames=5)
    result = build(root, tmp_path / "store", part_rows=2, edges=EdgeConfig(gradient="sobel", radius=3, void_edges=True))
    assert result.built
    store = open_store(tmp_path / "store")
    assert {name: split.samples for name, split in store.manifest.splits.items()} == {"train": 5, "val": 5}
    assert [part.rows for part in store.manifest.splits["train"].parts].count(2) == 2
    reader = store.split("train")
    counts = np.zeros(256, int)
    for index, name in enumerate(reader.names):
        image = np.array(Image.open(root / "train" / f"{name}.png"))
        raw = np.array(Image.open(root / "trainannot" / f"{name}.png"))
        label = np.where(raw == 11, 255, raw).astype(np.uint8)
        read = reader.read(index)
        np.testing.assert_array_equal(read.image, image)
        np.testing.assert_array_equal(read.label, label)
        np.testing.assert_array_equal(read.gradient, np.rint(image_gradient(image, "sobel") * 255))
        np.testing.assert_array_equal(read.boundary, boundary_map(label, 3, void_edges=True))
        counts += np.bincount(label.ravel(), minlength=256)
    split = store.manifest.splits["train"]
    assert [*split.pixels, split.void_pixels] == [*counts[:11], counts[255]]
    assert reader.names == sorted(reader.names)


@pytest.mark.parametrize(
    ("format_", "write", "classes"),
    [("cityscapes", write_cityscapes, 19), ("folder", write_folder, 2), ("union", write_union, 10)],
)
def test_every_format_becomes_a_store(tmp_path: Path, format_: str, write: Any, classes: int) -> None:
    result = build(write(tmp_path / "raw"), tmp_path / "store", format_)
    assert len(result.manifest.identity.classes) == classes
    assert open_store(tmp_path / "store", num_classes=classes).split("val").read(0).image.shape == (40, 60, 3)


def test_a_fold_is_a_store_with_a_fingerprint_of_its_own_and_a_note(tmp_path: Path) -> None:
    root = write_camvid(tmp_path / "raw", frames=4)
    whole = build(root, tmp_path / "whole").manifest
    assert whole.command("store", EdgeConfig()).endswith("--out store")
    assert "settings" not in json.loads((tmp_path / "whole" / "manifest.json").read_text())
    fingerprints = {whole.fingerprint}
    for fold in (0, 1):
        config = PrecomputeConfig(
            format=CamVid(folds=2, fold=fold, share=0.5), out=str(tmp_path / f"fold{fold}"), root=str(root)
        )
        result = precompute(config)
        assert {name: split.samples for name, split in result.manifest.splits.items()} == {"train": 2, "val": 4}
        assert f"note: split val is fold {fold} of 2 of train and val" in str(result)
        assert "note: split train is a subset, 2 of its 4 samples" in str(result)
        assert not precompute(config).built
        command = result.manifest.command("store", EdgeConfig())
        assert command.endswith(f" --format.share 0.5 --format.folds 2 --format.fold {fold}")
        fingerprints.add(result.manifest.fingerprint)
    assert len(fingerprints) == 3


def test_streets_need_no_root_and_reject_one(tmp_path: Path) -> None:
    config = PrecomputeConfig(format=TINY_STREETS, out=str(tmp_path / "store"))
    assert precompute(config).manifest.splits["train"].samples == 6
    with pytest.raises(DatasetError, match="streets is generated: remove --root"):
        precompute(config.model_copy(update={"root": str(tmp_path)}))


def test_an_unchanged_input_is_left_alone_and_a_changed_one_needs_overwrite(tmp_path: Path) -> None:
    root, out = write_camvid(tmp_path / "raw"), tmp_path / "store"
    first = build(root, out)
    files = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    moved = shutil.move(root, tmp_path / "moved")
    again = build(Path(moved), out)
    assert not again.built
    assert again.manifest == first.manifest
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")} == files
    with pytest.raises(StoreError, match=r"edges.radius is 2 in the store, expected 4; add --overwrite"):
        build(Path(moved), out, edges=EdgeConfig(radius=4))
    label = Path(moved) / "valannot" / "0001TP_val000.png"
    Image.fromarray(np.zeros((40, 60), np.uint8)).save(label)
    with pytest.raises(StoreError, match=r"content is .* in the store"):
        build(Path(moved), out)
    rebuilt = build(Path(moved), out, overwrite=True)
    assert rebuilt.built
    assert rebuilt.manifest.fingerprint != first.manifest.fingerprint
    assert open_store(out).manifest == rebuilt.manifest
    assert not leftovers(tmp_path)


def test_a_store_from_before_anchors_is_left_alone_with_a_note_and_overwrite_adds_them(tmp_path: Path) -> None:
    root, out = write_camvid(tmp_path / "raw"), tmp_path / "store"
    first = build(root, out)
    assert "anchors" not in str(first)
    without_anchors(out)
    left = build(root, out)
    assert not left.built
    assert "note: it has no anchors of classes" in str(left)
    rebuilt = build(root, out, overwrite=True)
    assert rebuilt.built
    assert rebuilt.manifest.fingerprint == first.manifest.fingerprint
    assert open_store(out).split("train").having
    assert not build(root, out, overwrite=True).built


def test_a_damaged_store_is_never_reported_as_unchanged_and_overwrite_rebuilds_it(tmp_path: Path) -> None:
    root, out = write_camvid(tmp_path / "raw"), tmp_path / "store"
    manifest = build(root, out).manifest
    part = out / manifest.splits["train"].parts[0].file
    for position, seen_without_reading in ((-20, True), (300, False)):
        flip_bit(part, position)
        if seen_without_reading:
            with pytest.raises(StoreError, match=f"{part} has another footer .* --out {out} --overwrite"):
                build(root, out)
        assert build(root, out, overwrite=True).built
        assert not build(root, out, overwrite=True).built
        [part] = (out / "train").iterdir()
    assert open_store(out).manifest.fingerprint == manifest.fingerprint


def spoil(root: Path) -> None:
    """One bad sample of each kind."""
    (root / "trainannot" / "0001TP_train000.png").unlink()
    (root / "train" / "0001TP_train001.png").write_bytes(b"not an image")
    Image.fromarray(np.zeros((41, 60), np.uint8)).save(root / "trainannot" / "0001TP_train002.png")
    Image.fromarray(np.full((40, 60), 77, np.uint8)).save(root / "valannot" / "0001TP_val003.png")


def test_all_bad_samples_are_listed_in_one_error_and_nothing_is_left_behind(tmp_path: Path) -> None:
    root = write_camvid(tmp_path / "raw", frames=5)
    spoil(root)
    with pytest.raises(BadDatasetError) as error:
        build(root, tmp_path / "store", part_rows=2)
    message = str(error.value)
    assert "4 of 10 samples cannot be used (3 in train, 1 in val)" in message
    for expected in (
        "0001TP_train000.png",
        "0001TP_train001.png",
        "60x41",
        "val003.png: label values outside the label table: 77",
        "--on-bad-sample skip",
    ):
        assert expected in message
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_skipped_samples_are_in_the_manifest_with_their_reason(tmp_path: Path) -> None:
    root = write_camvid(tmp_path / "raw", frames=5)
    spoil(root)
    manifest = build(root, tmp_path / "store", on_bad_sample="skip").manifest
    assert {name: split.samples for name, split in manifest.splits.items()} == {"train": 2, "val": 4}
    assert [item.name for item in manifest.skipped] == [
        f"0001TP_{name}" for name in ("train000", "train001", "train002", "val003")
    ]
    assert json.loads((tmp_path / "store" / "manifest.json").read_text())["skipped"][3]["reason"]
    assert not build(root, tmp_path / "store", on_bad_sample="skip").built


def test_a_long_list_of_bad_samples_is_cut_after_twenty_with_the_count(tmp_path: Path) -> None:
    root = write_camvid(tmp_path / "raw", frames=25)
    for path in (root / "trainannot").iterdir():
        path.write_bytes(b"")
    with pytest.raises(BadDatasetError, match=r"25 of 50 samples(.|\n)*and 5 more"):
        build(root, tmp_path / "store")


def test_a_folder_that_is_not_a_store_is_never_overwritten(tmp_path: Path) -> None:
    root, out = write_camvid(tmp_path / "raw"), tmp_path / "precious"
    out.mkdir()
    (out / "thesis.tex").write_text("ten years")
    with pytest.raises(StoreError, match="exists and is not a store"):
        build(root, out, overwrite=True)
    assert (out / "thesis.tex").read_text() == "ten years"


def test_a_folder_with_the_manifest_of_another_program_is_not_overwritten_either(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store/manifest.json").write_text('{"name": "my app"}')
    for overwrite in (False, True):
        config = PrecomputeConfig(format=TINY_STREETS, out=str(tmp_path / "store"), overwrite=overwrite)
        with pytest.raises(StoreError, match=r"belongs to another program, and .* is not a store: name another folder"):
            precompute(config)
    assert (tmp_path / "store/manifest.json").read_text() == '{"name": "my app"}'


def test_an_interrupted_build_leaves_the_old_store_and_no_partial_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = write_camvid(tmp_path / "raw"), tmp_path / "store"
    before = build(root, out).manifest

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gscnn_platform.data.store.destination.write_manifest", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(root, out, edges=EdgeConfig(radius=4), overwrite=True)
    assert open_store(out).manifest == before
    assert not leftovers(tmp_path)


def test_a_store_on_an_object_store_is_replaced_atomically_and_its_old_parts_are_removed(
    tmp_path: Path, remote: str
) -> None:
    root, out = write_camvid(tmp_path / "raw", frames=5), as_path(remote)

    def parts_there() -> set[str]:
        return {str(below(file, out)) for file in out.glob("**/*.parquet")}

    killed = f"train/part-01234567-{'0' * 32}.parquet"
    (out / killed).write_bytes(b"left by a build that was killed")
    local, first = build(root, tmp_path / "store", part_rows=2), build(root, remote, part_rows=2)
    assert first.manifest.identity == local.manifest.identity
    assert {split: of.pixels for split, of in first.manifest.splits.items()} == {
        split: of.pixels for split, of in local.manifest.splits.items()
    }
    assert not build(root, remote, part_rows=2).built
    with pytest.raises(StoreError, match=r"holds another store: edges.radius .* add --overwrite"):
        build(root, remote, edges=EdgeConfig(radius=4))
    before = parts_there()
    (root / "train" / "0001TP_train000.png").write_bytes(b"")
    with pytest.raises(BadDatasetError, match="1 of 10 samples"):
        build(root, remote, overwrite=True, part_rows=2)
    assert parts_there() == before
    assert open_store(remote).manifest == first.manifest
    second = build(root, remote, edges=EdgeConfig(radius=4), overwrite=True, on_bad_sample="skip").manifest
    assert open_store(remote).manifest == second
    assert parts_there() == {killed, *(part.file for of in second.splits.values() for part in of.parts)}


def test_an_endpoint_that_fails_during_a_build_leaves_the_old_store(
    tmp_path: Path, remote: str, s3: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_camvid(tmp_path / "raw")
    before = build(root, remote).manifest

    def failing(*_: object) -> None:
        s3.mode = Mode.REFUSE
        raise OSError("AWS Error ACCESS_DENIED during PutObject operation")

    monkeypatch.setattr("gscnn_platform.data.store.destination.write_manifest", failing)
    with pytest.raises(
        StorageError, match=rf"--out {remote} cannot be written: .*ACCESS_DENIED.*No part of this build"
    ):
        build(root, remote, edges=EdgeConfig(radius=4), overwrite=True)
    s3.recover()
    assert open_store(remote).manifest == before


@pytest.mark.usefixtures("s3")
def test_a_bucket_that_cannot_be_written_is_an_error_before_the_raw_data_are_read(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"--out s3://no-such-bucket/x cannot be written: .*NO_SUCH_BUCKET"):
        build(tmp_path / "nowhere", "s3://no-such-bucket/x")


def test_a_missing_root_is_an_error_before_anything_is_started(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="add --root"):
        build(None, tmp_path / "store")
    with pytest.raises(DatasetError, match="nowhere"):
        build(tmp_path / "nowhere", tmp_path / "store")


def test_notices_are_shown_when_a_store_is_built_and_when_it_exists_already(tmp_path: Path) -> None:
    root = write_camvid(tmp_path / "raw", splits=("train", "test"))
    shutil.rmtree(root / "testannot")
    Image.fromarray(np.full((40, 60), 11, np.uint8)).save(root / "trainannot" / "0001TP_train000.png")
    built, found = build(root, tmp_path / "store"), build(root, tmp_path / "store")
    assert (built.built, found.built) == (True, False)
    assert list(built.manifest.splits) == ["train"]
    said = [line for line in str(built).splitlines() if line.startswith("note: ")]
    assert [line for line in str(found).splitlines() if line.startswith("note: ")] == said
    for words in ("split test is left out", "there is no split val", "1 of 3 labels of split train are entirely void"):
        assert sum(words in line for line in said) == 1, said
