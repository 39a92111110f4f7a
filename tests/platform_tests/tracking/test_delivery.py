"""The outbox with a SQLite store; for servers that are killed, see tests/faults/test_tracking_faults.py."""

import errno
import math
import multiprocessing
import os
import sqlite3
import time
from multiprocessing.connection import Connection
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.entities import LoggedModelStatus
from mlflow.models import Model

from gscnn_platform import tracking
from gscnn_platform.runs.ref import RunRef
from gscnn_platform.tracking.outbox.errors import HeldError, TrackingError
from gscnn_platform.tracking.outbox.journal import RESERVE, Journal
from gscnn_platform.tracking.outbox.outbox import Outbox
from gscnn_platform.tracking.outbox.parts import complete_bytes, run_of
from gscnn_platform.tracking.outboxes import open_outbox


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store") / "mlflow.db"


@pytest.fixture(scope="module")
def client(database: Path) -> mlflow.MlflowClient:
    client = mlflow.MlflowClient(f"sqlite:///{database}")
    client.create_experiment("gscnn", (database.parent / "artifacts").as_uri())
    return client


@pytest.fixture
def run_id(client: mlflow.MlflowClient) -> str:
    return client.create_run("1").info.run_id


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tracking"


@pytest.fixture
def outbox(folder: Path, database: Path, run_id: str) -> Outbox:
    return open_outbox(RunRef(folder, f"sqlite:///{database}", run_id))


def reopened(outbox: Outbox) -> Outbox:
    outbox.close(patience=0)
    return open_outbox(outbox.journal.run)


def delivered(outbox: Outbox) -> None:
    left = outbox.start().close(patience=20)
    assert not left, left


def rows(database: Path, run_id: str, key: str) -> list[tuple[int, float]]:
    """Returns every row of the store as (step, value), including duplicates."""
    with sqlite3.connect(database) as connection:
        found = connection.execute("select step, value from metrics where run_uuid = ? and key = ?", (run_id, key))
        return sorted(found.fetchall())


def steps(first: int, last: int) -> list[tuple[int, dict[str, float]]]:
    return [(step, {"train/total": 1 / step, "train/lr": 0.1}) for step in range(first, last + 1)]


def expected(last: int) -> list[tuple[int, float]]:
    return [(step, 1 / step) for step in range(1, last + 1)]


def test_an_incomplete_line_after_a_crash_is_dropped_and_the_rest_is_delivered(
    outbox: Outbox, database: Path, run_id: str
) -> None:
    outbox.metrics(steps(1, 2))
    outbox.close(patience=0)
    file = outbox.journal.folder / "journal.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"kind":"metrics","time":17000000')
    resumed = reopened(outbox)
    assert file.read_bytes() == whole
    resumed.metrics(steps(1, 4))
    delivered(resumed)
    assert rows(database, run_id, "train/total") == expected(4)


def test_a_damaged_line_is_set_aside_and_reported(outbox: Outbox, database: Path, run_id: str) -> None:
    for step in range(1, 4):
        outbox.metrics(steps(step, step))
    outbox.close(patience=0)
    file = outbox.journal.folder / "journal.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    lines[1] = b"\0" * (len(lines[1]) - 1) + b"\n"
    file.write_bytes(b"".join(lines))
    left = reopened(outbox).start().close(patience=20)
    assert "refused" in str(left) and "the journal's line is damaged" in str(left)
    assert [step for step, _ in rows(database, run_id, "train/total")] == [1, 3]


def test_repeated_steps_are_skipped_after_any_restart(outbox: Outbox, database: Path, run_id: str) -> None:
    outbox.metrics(steps(1, 5))
    outbox.metrics(steps(4, 6))
    resumed = reopened(outbox)
    resumed.metrics([(6, {"train/total": 99.0, "val/miou": 0.5})])
    resumed.metrics(steps(3, 9))
    delivered(resumed)
    assert rows(database, run_id, "train/total") == expected(9)
    assert rows(database, run_id, "val/miou") == [(6, 0.5)]


def test_repeated_steps_are_known_from_the_store_if_the_journal_is_missing(
    outbox: Outbox, database: Path, run_id: str, tmp_path: Path
) -> None:
    outbox.metrics(steps(1, 5))
    delivered(outbox)
    elsewhere = open_outbox(RunRef(tmp_path / "elsewhere", f"sqlite:///{database}", run_id))
    elsewhere.metrics(steps(3, 8))
    delivered(elsewhere)
    assert rows(database, run_id, "train/total") == expected(8)
    (elsewhere.journal.folder / "delivered.json").unlink()
    again = reopened(elsewhere)
    again.metrics(steps(9, 9))
    delivered(again)
    assert rows(database, run_id, "train/total") == expected(9)


@pytest.mark.parametrize("damage", ["", "{", '{"bytes": 7}', '{"bytes": 1000000}'])
def test_a_lost_or_wrong_position_delivers_everything_again_without_duplicates(
    damage: str, outbox: Outbox, database: Path, run_id: str, client: mlflow.MlflowClient
) -> None:
    outbox.metrics([*steps(1, 700), (701, {"odd": math.nan}), (702, {"odd": math.inf})])
    outbox.artifact(b"first", "pictures", "a.txt")
    outbox.note("described")
    outbox.status("FINISHED", {})
    delivered(outbox)
    file = outbox.journal.folder / "delivered.json"
    file.unlink()
    if damage:
        file.write_text(damage)
    assert outbox.journal.size > 7
    delivered(reopened(outbox))
    assert rows(database, run_id, "train/total") == expected(700)
    assert len(rows(database, run_id, "odd")) == 2
    assert [artifact.path for artifact in client.list_artifacts(run_id, "pictures")] == ["pictures/a.txt"]
    assert client.get_run(run_id).info.status == "FINISHED"


def test_a_rejected_row_is_reported_and_does_not_block_others(
    outbox: Outbox, database: Path, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("metric_key", "mlflow_key"):  # As a store with other rules for names.
        monkeypatch.setattr(f"gscnn_platform.tracking.delivery.{name}", str)
    outbox.metrics([(step, values | {"val/iou of (bus)": 0.5}) for step, values in steps(1, 3)])
    outbox.tags({"note": "x", "bad\nname": "x"})
    outbox.metrics(steps(4, 4))
    left = outbox.start().close(patience=20)
    assert (left.waiting, len(left.refused)) == ("", 4)
    assert "refused.jsonl: 4 entries" in str(left) and "val/iou of (bus)" in str(left)
    assert rows(database, run_id, "train/total") == expected(4)


def test_entries_of_a_deleted_run_wait_until_it_is_restored(
    outbox: Outbox, database: Path, run_id: str, client: mlflow.MlflowClient
) -> None:
    client.delete_run(run_id)
    outbox.metrics(steps(1, 3))
    left = outbox.start().close(patience=1)
    assert left.waiting == "metrics of 3 steps"
    assert left.error == f"MLflow run {run_id} was deleted: restore it in the MLflow UI"
    assert f"python -m jobs.sync-tracking {outbox.folder}" in str(left)
    client.restore_run(run_id)
    assert not tracking.deliver(outbox.folder, patience=20)
    assert rows(database, run_id, "train/total") == expected(3)


def test_a_full_disk_neither_stops_the_run_nor_loses_entries_if_space_is_freed(
    outbox: Outbox, database: Path, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox.metrics(steps(1, 2))
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda file, data: write(file, data[:9]))
        outbox.metrics(steps(3, 4))
        assert outbox.journal.fault is not None
        assert complete_bytes(outbox.journal.folder) == outbox.journal.size
    outbox.metrics(steps(5, 6))
    assert outbox.journal.fault is None
    delivered(outbox)
    assert rows(database, run_id, "train/total") == expected(6)


def test_the_end_of_a_run_is_recorded_on_a_full_disk(
    outbox: Outbox, run_id: str, client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, reserve = os.write, outbox.journal.folder / "reserve"
    assert reserve.stat().st_size == RESERVE
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:9] if reserve.exists() else data))
    outbox.metrics(steps(1, 2))
    outbox.status("FAILED", {"failure": "no space"})
    delivered(outbox)
    assert client.get_run(run_id).info.status == "FAILED"


def test_a_model_whose_upload_was_interrupted_is_logged_once(
    outbox: Outbox, run_id: str, client: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    Model().save(tmp_path / "model" / "MLmodel")
    (tmp_path / "checkpoint").mkdir()
    outbox.best({"val/best_miou": 0.5}, tmp_path / "checkpoint", "checkpoint", tmp_path / "model")
    upload, cut = mlflow.MlflowClient.log_model_artifacts, []

    def cut_short(self: mlflow.MlflowClient, model_id: str, folder: str) -> None:
        if not cut:
            cut.append(model_id)
            raise ConnectionResetError("in the middle")
        upload(self, model_id, folder)

    monkeypatch.setattr(mlflow.MlflowClient, "log_model_artifacts", cut_short)
    delivered(outbox)
    run = client.get_run(run_id)
    assert run.outputs is not None
    assert [output.model_id for output in run.outputs.model_outputs] == cut
    [model] = client.search_logged_models(["1"], f"source_run_id = '{run_id}'")
    assert (model.model_id, model.status) == (cut[0], LoggedModelStatus.READY)
    assert model.metrics is not None and [metric.value for metric in model.metrics] == [0.5]


def test_files_that_a_crash_left_without_an_entry_are_removed(outbox: Outbox, client: mlflow.MlflowClient) -> None:
    outbox.journal.keep(b"lost", "lost.txt")
    outbox.artifact(b"wanted", "pictures", "wanted.txt")
    resumed = reopened(outbox)
    assert [path.name for path in (resumed.journal.folder / "files").rglob("*.txt")] == ["wanted.txt"]
    delivered(resumed)
    [there] = client.list_artifacts(resumed.journal.run.run_id, "pictures")
    assert there.path == "pictures/wanted.txt"


def test_entries_that_never_fit_on_a_full_disk_are_reported(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(os, "write", full)
        outbox.metrics(steps(1, 2))
        left = outbox.close(patience=0)
    assert "No space left on device" in str(left)


def test_a_second_process_gets_its_own_part_and_knows_the_steps_of_the_first(
    outbox: Outbox, database: Path, run_id: str
) -> None:
    outbox.metrics(steps(1, 3))
    second = open_outbox(RunRef(outbox.folder, f"sqlite:///{database}", run_id))
    assert (outbox.journal.folder.name, second.journal.folder.name) == ("0", "1")
    with pytest.raises(HeldError, match="in use by a run"):
        Journal(outbox.journal.folder)
    second.metrics(steps(2, 5))
    assert second.start().close(patience=20).waiting == "metrics of 3 steps"
    left = tracking.deliver(outbox.folder, patience=5)
    assert left.waiting == "metrics of 3 steps" and "in use by a run" in str(left)
    outbox.close(patience=0)
    assert not tracking.deliver(outbox.folder, patience=20)
    assert rows(database, run_id, "train/total") == expected(5)


def test_an_outbox_of_another_run_is_rejected(outbox: Outbox) -> None:
    outbox.close(patience=0)
    with pytest.raises(TrackingError, match=f"holds metrics of MLflow run {outbox.journal.run.run_id}, not of f"):
        open_outbox(RunRef(outbox.folder, "sqlite:///x", "f" * 32))


def hold(part: Path, ready: Connection) -> None:
    """Acts as a run's worker with a data loading process that outlives it."""
    journal = Journal(part)
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(5,)).start()
    time.sleep(0.5)  # The forked process has forgotten the lock by then.
    ready.send(journal.folder.name)
    time.sleep(60)


def test_a_process_forked_from_a_killed_run_does_not_hold_its_outbox(outbox: Outbox) -> None:
    outbox.close(patience=0)
    part = outbox.journal.folder
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    worker = context.Process(target=hold, args=(part, there))
    worker.start()
    assert here.poll(20) and here.recv() == "0"
    with pytest.raises(HeldError):
        Journal(part)
    worker.kill()
    worker.join()
    Journal(part).close()


def test_the_step_of_a_load_sample_is_the_seconds_since_the_run_began(
    outbox: Outbox, database: Path, run_id: str, client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = client.get_run(run_id).info.start_time / 1000
    for second in (10, 20):
        monkeypatch.setattr(time, "time", lambda second=second: began + second + 0.4)
        outbox.system({"system/cpu_utilization_percentage": 50.0})
    monkeypatch.undo()
    delivered(outbox)
    assert rows(database, run_id, "system/cpu_utilization_percentage") == [(10, 50.0), (20, 50.0)]


def test_the_latest_status_applies_in_whatever_order_the_parts_are_delivered(
    outbox: Outbox, database: Path, run_id: str, client: mlflow.MlflowClient
) -> None:
    outbox.status("FAILED", {"failure": "the node was lost"})
    time.sleep(0.002)
    second = open_outbox(RunRef(outbox.folder, f"sqlite:///{database}", run_id))
    second.status("FINISHED", {})
    second.start().close(patience=20)
    delivered(outbox)
    run = client.get_run(run_id)
    assert (run.info.status, run.data.tags.get("failure")) == ("FINISHED", None)


def test_a_new_picture_keeps_the_descriptions_links_to_evaluations(
    outbox: Outbox, run_id: str, client: mlflow.MlflowClient, database: Path
) -> None:
    writer = tracking.RunWriter(outbox)
    writer.describe("mIoU 0.4", 1, {}, picture=np.zeros((4, 6, 3), np.uint8))
    outbox.start()
    outbox.close(patience=20)
    uri = f"sqlite:///{database}"
    tracking.log_evaluation(uri, run_id, {"miou": 0.4}, {}, {"val.html": "<html></html>"})
    again = reopened(outbox)
    tracking.RunWriter(again).describe("mIoU 0.5", 2, {}, picture=np.ones((4, 6, 3), np.uint8))
    delivered(again)
    note = client.get_run(run_id).data.tags["mlflow.note.content"]
    assert note.startswith("**mIoU 0.5**")
    assert "epoch-002.png" in note and "epoch-001.png" not in note
    assert note.count("path=evaluation/val.html") == 1
    assert not list((again.journal.folder / "files").iterdir()), "what is delivered takes no space"


def test_the_journal_belongs_to_its_run_even_if_the_server_moves(outbox: Outbox, database: Path) -> None:
    outbox.metrics(steps(1, 1))
    outbox.close(patience=0)
    part = outbox.journal.folder
    moved = RunRef(outbox.folder, "http://127.0.0.1:9", outbox.journal.run.run_id)
    Journal(part, moved).close()
    assert run_of(part) == moved
    assert not tracking.deliver(outbox.folder, patience=20, uri=f"sqlite:///{database}")
