"""Faults of real stores: the tests assert where each fault is found and what the message contains."""

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gscnn_platform.config import ExperimentConfig, VerifyConfig, with_overrides
from gscnn_platform.data.loader import batches
from gscnn_platform.data.store import Store, open_store
from gscnn_platform.data.store.manifest import MANIFEST, MOST_BYTES, StoreError, read_manifest
from gscnn_platform.data.store.parts import ANCHORS, ARRAYS, SampleArrays, open_part, read_arrays, read_keys, write_part
from gscnn_platform.data.store.verification import describe, verify
from jobs import verify as verify_job
from tests.stores import edit_manifest, flip_bit

TRAIN, VAL = "train/part-0.parquet", "val/part-0.parquet"
SIZE = (8, 12)
ALL = (*ARRAYS, ANCHORS)

Rows = list[tuple[str, SampleArrays]]


@pytest.fixture
def copy(streets_store: Store, tmp_path: Path) -> Path:
    """A copy of a store, to damage."""
    return shutil.copytree(str(streets_store.path), tmp_path / "store")


def faults(folder: Path) -> list[str]:
    return [str(fault) for fault in verify(VerifyConfig(store=str(folder))).faults]


def place(file: Path, row: int, column: str) -> int:
    """Returns the file offset of the middle byte of a row's column."""
    with open_part(file) as opened:
        names = opened.schema_arrow.names
        chunk = opened.metadata.row_group(row).column(names.index(column))
    return chunk.data_page_offset + chunk.total_compressed_size // 2


def rewrite(folder: Path, file: str, change: Callable[[Rows], object]) -> None:
    """Changes the rows of a part and updates the checksums: the store is intact but wrong."""
    with open_part(folder / file) as opened:
        keys = read_keys(opened, range(opened.num_row_groups))
        rows = [(key[0], SampleArrays(**read_arrays(opened, row, *key[1:], ALL))) for row, key in enumerate(keys)]
    change(rows)
    part = write_part(folder / file, rows)
    assert part is not None

    def of_split(content: dict[str, Any]) -> None:
        split = content["splits"][Path(file).parent.name]
        split["parts"], split["samples"] = [part.model_dump()], part.rows

    edit_manifest(folder, of_split)


def changed(rows: Rows, row: int, key: str, pixel: tuple[int, int], value: int) -> None:
    """Sets a pixel of an array."""
    name, arrays = rows[row]
    fields = {of: getattr(arrays, of) for of in ALL}
    fields[key] = fields[key].copy()
    fields[key][pixel] = value
    rows[row] = (name, SampleArrays(**fields))


def noise(seed: int, rows: int = 3) -> Rows:
    """Tiny incompressible samples, so that all parts have the same length."""
    rng = np.random.default_rng(seed)
    values = [{key: rng.integers(0, 256, SIZE, dtype=np.uint8) for key in ARRAYS[1:]} for _ in range(rows)]
    images = [rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(rows)]
    anchors = rng.integers(-(2**31), 2**31, (rows, 20, 3)).astype(np.int32)
    return [(str(row), SampleArrays(image=images[row], anchors=anchors[row], **values[row])) for row in range(rows)]


def everything(file: Path) -> list[Any]:
    with open_part(file) as opened:
        keys = read_keys(opened, range(opened.num_row_groups))
        arrays = [read_arrays(opened, row, *key[1:], ALL) for row, key in enumerate(keys)]
        return [keys, [[array.tolist() for array in of_row.values()] for of_row in arrays]]


def test_no_flipped_bit_of_a_page_is_ever_read_as_other_values(tmp_path: Path) -> None:
    file = tmp_path / "part.parquet"
    write_part(file, noise(0))
    content, truth = file.read_bytes(), everything(file)
    footer = int.from_bytes(content[-8:-4], "little")
    refused = 0
    # Every 13th of the 8 x 3,000 bits, which covers every bit of a byte; all bits were tried once.
    for bit in range(4 * 8, (len(content) - footer - 8) * 8, 13):
        flip_bit(file, bit // 8, bit % 8)
        try:
            assert everything(file) == truth, f"bit {bit % 8} of byte {bit // 8}"
        except (OSError, ValueError):
            refused += 1
        file.write_bytes(content)
    assert refused > 1000


# After an error torch waits 5 s for the loader's process to end.
@pytest.mark.parametrize("processes", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_flipped_bit_in_a_data_page_names_file_and_sample_when_training_reads_it(
    copy: Path, tiny_run: ExperimentConfig, processes: int
) -> None:
    flip_bit(copy / TRAIN, place(copy / TRAIN, 4, "image"), bit=5)
    config = with_overrides(tiny_run, {"data.loader_processes": processes})
    reader = open_store(copy).split("train")
    with pytest.raises(StoreError, match=rf"{TRAIN}, row 4 \(sample 00004\) cannot be read: .*page integrity"):
        list(batches(reader, config, rank=0, world_size=1))


def test_a_flipped_bit_in_the_boundary_does_not_stop_training_which_never_reads_it(copy: Path) -> None:
    flip_bit(copy / TRAIN, place(copy / TRAIN, 4, "boundary"))
    reader = open_store(copy).split("train")
    assert reader.read(4, boundary=False).boundary is None
    with pytest.raises(StoreError, match="sample 00004"):
        reader.read(4)
    assert len(faults(copy)) == 2, "the file's checksum and the row"


def test_a_flipped_bit_in_a_name_is_found_when_the_split_is_opened(copy: Path) -> None:
    flip_bit(copy / TRAIN, place(copy / TRAIN, 2, "name"))
    with pytest.raises(StoreError, match=rf"{TRAIN} cannot be read: .*jobs.verify --store {copy} lists every fault"):
        open_store(copy).split("train")
    assert any(fault.startswith(f"{TRAIN}, row 2: name and size cannot be read") for fault in faults(copy))


@pytest.mark.parametrize("position", [-1, -6, -9, -700, -1500])
def test_a_flipped_bit_in_the_footer_is_found_on_opening(copy: Path, position: int) -> None:
    flip_bit(copy / VAL, position, bit=3)
    with pytest.raises(StoreError, match=rf"{copy / VAL} has another footer than the manifest says; .* --overwrite$"):
        open_store(copy)
    assert faults(copy)[0] == f"{VAL}: has another footer than the manifest says"


def test_a_flipped_bit_that_no_reader_would_meet_is_found_by_verify(copy: Path) -> None:
    flip_bit(copy / VAL, 0)
    assert len(open_store(copy).split("val").read(0).image)
    assert faults(copy) == [f"{VAL}: differs from what was written: its sha256 is not the manifest's"]


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.999])
def test_a_truncated_part_is_found_on_opening(copy: Path, kept: float) -> None:
    size = (copy / TRAIN).stat().st_size
    os.truncate(copy / TRAIN, int(kept * size))
    with pytest.raises(StoreError, match=rf"{TRAIN} has {int(kept * size)} bytes, the manifest says {size}"):
        open_store(copy)
    assert [fault.split(": ")[:2] for fault in faults(copy)] == [
        [TRAIN, f"has {int(kept * size)} bytes, the manifest says {size}"],
        [TRAIN, "none of its rows can be read"],
    ]


def test_a_part_that_is_cut_while_it_is_open_is_an_error_and_no_dead_process(copy: Path) -> None:
    reader = open_store(copy).split("train")
    reader.read(0)
    os.truncate(copy / TRAIN, (copy / TRAIN).stat().st_size // 3)
    with pytest.raises(StoreError, match=rf"{TRAIN}, row 5 \(sample 00005\) cannot be read"):
        reader.read(5)


def test_a_part_that_vanishes_after_opening_is_named_at_its_first_read(copy: Path) -> None:
    reader = open_store(copy).split("train")
    (copy / TRAIN).unlink()
    with pytest.raises(StoreError, match=rf"{TRAIN}, row 0 \(sample 00000\) cannot be read: .*No such file"):
        reader.read(0)


def test_missing_parts_are_all_named_on_opening(copy: Path) -> None:
    for file in (TRAIN, VAL):
        (copy / file).unlink()
    with pytest.raises(StoreError, match=rf"{TRAIN} is missing.*{VAL} is missing"):
        open_store(copy)
    assert [fault.split(",")[0] for fault in faults(copy)] == [f"{TRAIN}: is missing", f"{VAL}: is missing"]


def test_swapped_parts_are_found_on_opening_even_where_their_lengths_are_the_same(copy: Path, tmp_path: Path) -> None:
    ours, theirs = TRAIN, "val/part-000.parquet"
    train, val = write_part(copy / ours, noise(0)), write_part(copy / theirs, noise(1))
    assert train is not None and val is not None and train.bytes == val.bytes

    def use(content: dict[str, Any]) -> None:
        for split, part in (("train", train), ("val", val)):
            content["splits"][split] |= {"parts": [part.model_dump()], "samples": part.rows}

    edit_manifest(copy, use)
    assert open_store(copy)
    (copy / ours).rename(tmp_path / "kept")
    (copy / theirs).rename(copy / ours)
    (tmp_path / "kept").rename(copy / theirs)
    with pytest.raises(StoreError, match=rf"{ours} has another footer .*{theirs} has another footer"):
        open_store(copy)


def test_extra_rows_are_found_on_opening_and_by_a_manifest_that_was_not_told(copy: Path) -> None:
    with open_part(copy / VAL) as opened:
        rows = opened.num_row_groups
    rewrite(copy, VAL, lambda rows: rows.append(("extra", rows[0][1])))
    assert len(open_store(copy).split("val")) == rows + 1
    (pixels,) = {fault.split(":")[1] for fault in faults(copy)}
    assert pixels == " split val", "the manifest's pixel counts are those of the rows before"
    edit_manifest(copy, lambda content: content["splits"]["val"]["parts"][0].update(rows=rows))
    with pytest.raises(StoreError, match=f"split val has {rows + 1} samples and {rows} rows"):
        open_store(copy)
    edit_manifest(copy, lambda content: content["splits"]["val"].update(samples=rows))
    with pytest.raises(StoreError, match=f"{VAL} has {rows + 1} rows in {rows + 1} groups, the manifest says {rows}"):
        open_store(copy)


def test_every_byte_of_the_manifest_is_checked(copy: Path) -> None:
    file, truth = copy / MANIFEST, read_manifest(copy)
    content = file.read_bytes()
    for bit in range(0, len(content) * 8, 29):
        flip_bit(file, bit // 8, bit % 8)
        try:
            assert read_manifest(copy) == truth, f"bit {bit % 8} of byte {bit // 8}"
        except StoreError as error:
            assert str(file) in str(error)
        file.write_bytes(content)


def test_an_edit_of_the_manifest_alone_is_refused(copy: Path) -> None:
    text = (copy / MANIFEST).read_text()
    (copy / MANIFEST).write_text(text.replace('"void_pixels": ', '"void_pixels": 1'))
    with pytest.raises(StoreError, match=rf"{MANIFEST}: its checksum does not match its contents: it was edited"):
        open_store(copy)
    assert faults(copy)[0] == f"{MANIFEST}: its checksum does not match its contents: it was edited, or is damaged"


@pytest.mark.parametrize("path", ["/etc/passwd", "../store/train/part-0.parquet", "train/../../part.parquet", "."])
def test_a_path_in_the_manifest_that_leads_out_of_the_store_is_refused(copy: Path, path: str) -> None:
    edit_manifest(copy, lambda content: content["splits"]["train"]["parts"][0].update(file=path))
    with pytest.raises(StoreError) as error:
        open_store(copy)
    for named in (f"{copy / MANIFEST} is not a manifest: splits.train.parts is {path}: ", "leads out of the store"):
        assert named in str(error.value)


@pytest.mark.parametrize("field", ["sha256", "footer"])
def test_a_checksum_that_is_a_path_is_refused(copy: Path, field: str) -> None:
    edit_manifest(copy, lambda content: content["splits"]["train"]["parts"][0].update({field: "../../" + 58 * "a"}))
    with pytest.raises(StoreError, match=r"not a manifest: splits\.train\.parts is \.\./\.\./a+: must be of the form"):
        open_store(copy)


@pytest.mark.parametrize("link", ["train", TRAIN])
def test_a_link_that_leads_out_of_the_store_is_refused_and_not_followed(
    copy: Path, streets_store: Store, link: str
) -> None:
    shutil.rmtree(copy / link) if (copy / link).is_dir() else (copy / link).unlink()
    (copy / link).symlink_to(str(streets_store.path / link))
    with pytest.raises(StoreError, match=rf"{TRAIN} leads out of the store by a link"):
        open_store(copy)
    assert faults(copy) == [f"{TRAIN}: leads out of the store by a link"]


def test_links_inside_the_store_and_to_it_are_allowed(copy: Path, tmp_path: Path) -> None:
    (copy / "train").rename(copy / "elsewhere")
    (copy / "train").symlink_to("elsewhere")
    (tmp_path / "link").symlink_to(copy)
    assert len(open_store(tmp_path / "link").split("train")) == 6


def test_a_manifest_of_absurd_length_or_depth_is_refused_unread(copy: Path) -> None:
    (copy / MANIFEST).write_text("[" * 100_000)
    with pytest.raises(StoreError, match="is not a manifest"):
        open_store(copy)
    os.truncate(copy / MANIFEST, MOST_BYTES + 1)
    with pytest.raises(StoreError, match=rf"{MANIFEST} has {MOST_BYTES + 1} bytes, more than the limit"):
        open_store(copy)


def test_verify_finds_contents_that_are_wrong_under_checksums_that_fit(copy: Path) -> None:
    lacking: list[int] = []

    def wrong(rows: Rows) -> None:
        changed(rows, 0, "boundary", (5, 5), 7)
        changed(rows, 1, "label", (0, 0), 200)
        changed(rows, 2, "gradient", (3, 3), 17)
        rows[4] = (rows[3][0], rows[4][1])
        _, arrays = rows[5]
        rows[5] = (rows[5][0], replace(arrays, image=arrays.image[1:]))
        anchors = rows[3][1].anchors
        assert anchors is not None
        wrong_ones = anchors[anchors[:, 0] != anchors[0, 0]].copy()
        wrong_ones[0, 1], wrong_ones[1, 2] = 64, -1
        rows[3] = (rows[3][0], replace(rows[3][1], anchors=wrong_ones))
        lacking.append(anchors[0, 0])

    rewrite(copy, TRAIN, wrong)
    assert open_store(copy)
    found = faults(copy)
    for expected in (
        f"{TRAIN}, row 0 (sample 00000): boundary differs in 1 of 6144 px from what the label gives",
        f"{TRAIN}, row 1 (sample 00001): label holds 200 (1 px); classes are 0 to 8, void is 255",
        f"{TRAIN}, row 2 (sample 00002): gradient has 1 px that are neither 0 nor 255, the only values of canny",
        f"{TRAIN}, row 5 (sample 00005): image cannot be read: image has 18144 bytes, 64 x 96 pixels need 18432",
        f"{TRAIN}, row 1 (sample 00001): anchors has none of classes 200, which the label has",
        f"{TRAIN}, row 3 (sample 00003): anchors has none of classes {lacking[0]}, which the label has",
        "train: sample 00003 occurs 2 times",
    ):
        assert expected in found
    outside = rf"{TRAIN}, row 3 \(sample 00003\): anchors has 2 of \d+ that are no pixel of their class"
    assert any(re.fullmatch(outside, fault) for fault in found)
    [counts] = [fault for fault in found if fault.startswith(MANIFEST)]
    assert counts.startswith(f"{MANIFEST}: split train: ")


def test_verify_lists_all_faults_with_status_1_and_otherwise_sums_up(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["verify", "--store", str(copy), "--threads", "2"])
    with pytest.raises(SystemExit) as ended:
        verify_job.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"no fault in {copy}: 10 samples in 3 files, ")
    for row, column in ((0, "image"), (3, "label"), (3, "gradient")):
        flip_bit(copy / TRAIN, place(copy / TRAIN, row, column))
    (copy / VAL).unlink()
    shutil.copy(copy / "test/part-0.parquet", copy / "test/part-1.parquet")
    with pytest.raises(SystemExit) as ended:
        verify_job.main()
    assert ended.value.code == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        TRAIN,
        f"{TRAIN}, row 0 (sample 00000)",
        f"{TRAIN}, row 3 (sample 00003)",
        f"{TRAIN}, row 3 (sample 00003)",
        VAL,
        "test/part-1.parquet",
        f"6 faults in {copy}",
    ]


def test_verify_says_the_same_with_one_thread_as_with_many(copy: Path) -> None:
    flip_bit(copy / TRAIN, place(copy / TRAIN, 2, "image"))
    (copy / VAL).unlink()
    one, many = (verify(VerifyConfig(store=str(copy), threads=threads)) for threads in (1, 4))
    assert one.faults == many.faults
    assert describe(one).splitlines()[:-1] == describe(many).splitlines()[:-1]
