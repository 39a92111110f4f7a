"""jobs.sync-tracking without its command line: outboxes of ended runs, delivered to a SQLite store."""

import json
from pathlib import Path

import mlflow

from gscnn_platform import tracking
from gscnn_platform.runs.ref import RunRef


def test_sync_tracking_reports_a_deleted_run_and_restores_it_on_request(
    uri: str, run_id: str, tmp_path: Path, client: mlflow.MlflowClient
) -> None:
    outbox = tracking.open_outbox(RunRef(tmp_path / "run" / "tracking", uri, run_id))
    outbox.metrics([(1, {"train/total": 0.5})])
    outbox.close(patience=0)
    client.delete_run(run_id)
    lines: list[str] = []
    assert not tracking.sync([tmp_path], None, lines.append)
    assert f"MLflow run {run_id} was deleted: restore it with --restore-deleted" in lines[0]
    assert tracking.sync([tmp_path], None, lines.append, restore_deleted=True)
    assert client.get_run(run_id).data.metrics == {"train/total": 0.5}


def test_an_unreadable_outbox_does_not_block_the_others(
    uri: str, run_id: str, tmp_path: Path, client: mlflow.MlflowClient
) -> None:
    (tmp_path / "a" / "tracking" / "0").mkdir(parents=True)
    (tmp_path / "a" / "tracking" / "0" / "outbox.json").write_text("damaged")
    opened = tracking.open_outbox(RunRef(tmp_path / "b" / "tracking", uri, run_id))
    opened.metrics([(1, {"train/total": 0.5})])
    opened.close(patience=0)
    lines: list[str] = []
    assert not tracking.sync([tmp_path], None, lines.append)
    assert lines[0].startswith(f"{tmp_path}/a/tracking cannot be delivered: ")
    assert lines[0].endswith("is missing or damaged")
    assert lines[1].startswith(f"{tmp_path}/b/tracking: metrics of 1 steps delivered to ")
    assert client.get_run(run_id).data.metrics["train/total"] == 0.5


def test_a_part_whose_process_was_killed_before_its_first_entry_is_empty(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "outbox.json").write_text(json.dumps({"tracking_uri": "http://127.0.0.1:9", "run_id": "f" * 32}))
    assert not tracking.left_in(tmp_path)
    assert not tracking.deliver(tmp_path, patience=1)
