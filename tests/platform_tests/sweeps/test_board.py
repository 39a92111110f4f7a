"""The board of a sweep, with events as Tune's loop sends them."""

import csv
import io
from pathlib import Path
from typing import Any

import mlflow
import pytest

from gscnn_platform import tracking
from gscnn_platform.config import ExperimentConfig, with_overrides
from gscnn_platform.data.store import Store
from gscnn_platform.interrupts import TrainingStoppedError
from gscnn_platform.names import NamingError
from gscnn_platform.runs.alive import alive
from gscnn_platform.runs.checkpoint import CHECKSUMS
from gscnn_platform.runs.folder import RunFolder
from gscnn_platform.runs.record import RunRecord
from gscnn_platform.runs.resume import choose_run
from gscnn_platform.sweeps import SweepConfig, SweepError
from gscnn_platform.sweeps.board import Board
from gscnn_platform.sweeps.driver import in_new_mlflow_run
from gscnn_platform.sweeps.record import SweepRecord, needs_new_run, wanted_sweep
from gscnn_platform.sweeps.search_spaces import SEARCH_SPACES
from gscnn_platform.sweeps.searchers import EPOCH, NUMBER, SCORE
from gscnn_platform.sweeps.space import SearchSpace
from gscnn_platform.training.progress import Progress

SPACE = SEARCH_SPACES["loss-small"]


@pytest.fixture
def record(tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store) -> SweepRecord:
    uri, config = f"sqlite:///{tmp_path}/mlflow.db", SweepConfig.of(tiny_run)
    folder, settings = RunFolder.of(str(tmp_path), "a-sweep"), {"search": "random"}
    run_id = tracking.create_sweep(uri, config.recipe, folder, streets_store, "loss-small", [], settings)
    return SweepRecord(
        name="a-sweep",
        config=config,
        space=SPACE,
        fingerprint=streets_store.manifest.fingerprint,
        tracking_uri=uri,
        run_id=run_id,
        began=0.0,
        state="running",
    )


def board_of(tmp_path: Path, record: SweepRecord, count: int = 4, space: SearchSpace = SPACE) -> Board:
    return Board(RunFolder.of(str(tmp_path), "a-sweep"), record, space, count)


def sampled(number: int, edge: float = 2.0) -> dict[str, Any]:
    return {NUMBER: number, "loss.edge": edge, "loss.attention": 1.0}


def four_trials(board: Board) -> None:
    """Trials of two epochs: one runs to the end, one is stopped, one diverges, one fails."""
    for number in range(4):
        board.began(sampled(number, edge=number + 1.0))
    for number, epoch, score in ((0, 1, 0.2), (1, 1, 0.1), (0, 2, 0.4)):
        board.validated(sampled(number, edge=number + 1.0), {SCORE: score, EPOCH: epoch})
    board.validated(sampled(2, edge=3.0), {SCORE: 0.0, EPOCH: 2, "diverged": True, "done": True})
    for number in (0, 1, 2):
        board.finished(sampled(number, edge=number + 1.0))
    board.finished(sampled(3, edge=4.0), failed=True)


def test_trial_states_are_recorded_and_survive_the_driver(
    tmp_path: Path, record: SweepRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    board = board_of(tmp_path, record)
    four_trials(board)
    said = capsys.readouterr().out
    assert "trial-000 · epoch 2/2 · miou 0.4000 · best so far" in said
    assert "trial-001 stopped after epoch 1 · miou 0.1000 · 2 of 4 trials · best trial-000 0.4000" in said
    for known in (board, board_of(tmp_path, record)):
        assert [row.state for row in known.rows()] == ["finished", "stopped", "diverged", "failed"]
        assert [row.epochs for row in known.rows()] == [2, 1, 2, 0]
        assert known.complete()
        best = known.best()
        assert best is not None and best.name == "trial-000"


def test_a_resumed_sweep_says_where_its_unfinished_trials_resume(
    tmp_path: Path, record: SweepRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    killed = board_of(tmp_path, record)
    for number in range(3):
        killed.began(sampled(number))
    killed.finished(sampled(0))
    for name in ("step-00000120", "step-00000133"):
        checkpoint = tmp_path / "a-sweep" / "trial-001" / name
        checkpoint.mkdir(parents=True)
        (checkpoint / CHECKSUMS).write_text("{}", encoding="utf-8")
    capsys.readouterr()
    resumed = board_of(tmp_path, record)
    for number in (1, 2, 3, 1):
        resumed.began(sampled(number))
    settings = "loss.edge 2, loss.attention 1"
    assert capsys.readouterr().out.splitlines() == [
        f"trial-001 resumes after step 133 · {settings}",
        f"trial-002 starts again, it has no checkpoint yet · {settings}",
        f"trial-003 begins · {settings}",
    ]


def test_a_sweep_that_was_silent_for_a_minute_says_how_far_its_running_trials_are(
    tmp_path: Path, record: SweepRecord, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    for name in ("monotonic", "perf_counter"):
        monkeypatch.setattr(f"time.{name}", lambda: clock[0])
    board = board_of(tmp_path, record)
    for number in range(3):
        board.began(sampled(number))
    progress = Progress(epochs=10, steps_per_epoch=46, batch_size=8, first_step=0)
    clock[0] = 50.0
    assert progress.images_per_second(46) == 46 * 8 / 50
    for number, step in ((1, 23), (1, 46), (2, 400)):
        log = tmp_path / "a-sweep" / f"trial-{number:03d}" / "log.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{progress.line(step, {'total': 1.0, 'seg': 1.0}, 0.1, 8.0)}\nclasses in the fewest crops: …\n")
    capsys.readouterr()
    said = []
    for clock[0] in (59.0, 60.0, 100.0):
        board.step()
        said.append(capsys.readouterr().out)
    assert said == ["", "trial-001 epoch 1/10, 7m 30s left · trial-002 epoch 9/10, 8s left\n", ""]


def test_the_parent_run_has_the_table_the_figures_and_the_best_score_by_trial(
    tmp_path: Path, record: SweepRecord
) -> None:
    board = board_of(tmp_path, record)
    with board.open():
        four_trials(board)
        board.draw()
    client = mlflow.MlflowClient(record.tracking_uri)
    run = client.get_run(record.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["sweep.search"] == "random" and run.data.tags["gscnn.sweep"] == "loss-small"
    assert "| trial-000 | 0.4000 | 2 | finished | loss.edge 1, loss.attention 1 |" in run.data.tags[
        "mlflow.note.content"
    ].replace("&nbsp;", "")
    history = client.get_metric_history(record.run_id, "best/miou")
    assert [(metric.step, metric.value) for metric in history] == [(number, 0.4) for number in (1, 2, 3, 4)]
    files = {Path(file.path).name for file in client.list_artifacts(record.run_id, "sweep")}
    assert {"best_so_far.png", "slices.png", "trials.csv", "trials.json"} <= files
    place = client.download_artifacts(record.run_id, "sweep/trials.csv", str(tmp_path))
    rows = list(csv.DictReader(io.StringIO(Path(place).read_text())))
    assert [(row["trial"], row["loss.edge"], row["miou"], row["state"]) for row in rows] == [
        ("trial-000", "1.0", "0.4", "finished"),
        ("trial-001", "2.0", "0.1", "stopped"),
        ("trial-002", "3.0", "0.0", "diverged"),
        ("trial-003", "4.0", "", "failed"),
    ]


def test_a_stopped_or_failed_sweep_has_that_status_in_mlflow(tmp_path: Path, record: SweepRecord) -> None:
    client = mlflow.MlflowClient(record.tracking_uri)
    for error, status in ((TrainingStoppedError("stopped", 15), "KILLED"), (ValueError("broken"), "FAILED")):
        with pytest.raises(type(error)), board_of(tmp_path, record).open():
            assert client.get_run(record.run_id).info.status == "RUNNING"
            raise error
        assert client.get_run(record.run_id).info.status == status


def test_settings_changed_by_pbt_are_kept_with_their_epochs(tmp_path: Path, record: SweepRecord) -> None:
    board = board_of(tmp_path, record)
    board.began(sampled(0, edge=2.0))
    board.validated(sampled(0, edge=2.0), {SCORE: 0.1, EPOCH: 1})
    board.validated(sampled(0, edge=5.0), {SCORE: 0.2, EPOCH: 2})
    [row] = board.rows()
    assert row.sampled["loss.edge"] == 5.0
    assert row.changes == ((1, {"loss.edge": 5.0, "loss.attention": 1.0}),)


def test_only_the_same_sweep_is_resumed(tmp_path: Path, record: SweepRecord) -> None:
    storage, config = str(tmp_path), record.config
    found = record.model_copy(update={"name": "sweep-streets-1", "state": "stopped"})
    folder = RunFolder.of(storage, "sweep-streets-1")
    folder.write(found)
    assert choose_run(wanted_sweep(config, SPACE, record.fingerprint), storage) == (folder, found)
    for other, space, fingerprint in (
        (with_overrides(config, {"loss.edge": 3.0}), SPACE, record.fingerprint),
        (config, SEARCH_SPACES["loss"], record.fingerprint),
        (config, SPACE, "another"),
        (with_overrides(config, {"resume": False}), SPACE, record.fingerprint),
    ):
        other_folder, before = choose_run(wanted_sweep(other, space, fingerprint), storage)
        assert before is None and other_folder != folder
    named = with_overrides(config, {"run_name": "sweep-streets-1"})
    changed = named.model_copy(update={"num_trials": 99})
    with pytest.raises(SweepError, match="num_trials was None, is 99"):
        choose_run(wanted_sweep(changed, SPACE, record.fingerprint), storage)
    with alive(folder), pytest.raises(SweepError, match="is running"):
        choose_run(wanted_sweep(named, SPACE, record.fingerprint), storage)
    folder.write(found.model_copy(update={"state": "finished"}))
    with pytest.raises(SweepError, match="is already used by a sweep that is finished"):
        choose_run(wanted_sweep(named, SPACE, record.fingerprint), storage)
    assert RunFolder.of(storage, "nowhere").read(SweepRecord) is None


def test_a_sweep_whose_parent_was_deleted_resumes_under_a_new_one_with_its_trials(
    tmp_path: Path, record: SweepRecord, streets_store: Store
) -> None:
    folder, uri = RunFolder.of(str(tmp_path), "a-sweep"), record.tracking_uri
    client = mlflow.MlflowClient(uri)
    tags = {tracking.PARENT: record.run_id}
    trial = tracking.create_run(uri, record.config.recipe, folder.trial("trial-000"), streets_store, tags)
    config = record.config.recipe
    folder.trial("trial-000").write(
        RunRecord(name="trial-000", config=config, fingerprint="f", tracking_uri=uri, run_id=trial, state="stopped"),
    )
    assert needs_new_run(record, folder, "error") is False
    client.delete_run(record.run_id)
    with pytest.raises(tracking.DeletedError, match=record.run_id):
        needs_new_run(record, folder, "error")
    assert needs_new_run(record, folder, "new") is True
    moved = in_new_mlflow_run(record, folder, streets_store)
    assert [run.run_id for run in tracking.children(uri, moved.run_id)] == [trial]
    assert client.get_run(moved.run_id).data.tags[tracking.REPLACES] == record.run_id
    client.delete_run(trial)
    with pytest.raises(tracking.DeletedError, match=trial):
        needs_new_run(moved, folder, "error")
    assert needs_new_run(moved, folder, "restore") is False
    assert client.get_run(trial).info.lifecycle_stage == "active"


def test_a_sweeps_failed_start_and_names_with_the_same_prefix_leave_its_name_free(
    tmp_path: Path, record: SweepRecord
) -> None:
    config = with_overrides(record.config, {"run_name": "a"})
    (tmp_path / "a" / "tracking").mkdir(parents=True)
    (tmp_path / "ab").mkdir()
    assert choose_run(wanted_sweep(config, SPACE, "data"), str(tmp_path)) == (RunFolder.of(str(tmp_path), "a"), None)
    for changed in ({"run_name": "a/b"}, {"register_as": "models:/a"}):
        with pytest.raises(NamingError, match="cannot be used"):
            wanted_sweep(with_overrides(config, changed), SPACE, "data")
