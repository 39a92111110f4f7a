"""Which run a command starts or resumes. No run is trained here; tests/faults has runs that are really killed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from gscnn_platform.config import EXECUTION, ExperimentConfig, flatten, with_overrides
from gscnn_platform.names import NamingError
from gscnn_platform.recipes import STREETS
from gscnn_platform.runs import alive as signs
from gscnn_platform.runs.alive import alive
from gscnn_platform.runs.folder import ALIVE, RunFolder
from gscnn_platform.runs.record import RECORD, ResumeError, RunRecord, State
from gscnn_platform.runs.resume import choose_run, wanted_run

DATA = "0123456789abcdef"


def leave(storage: Path, name: str, config: ExperimentConfig = STREETS, state: State = "running") -> None:
    """Writes what a run leaves behind that crashed, or ended with `state`."""
    record = RunRecord(
        name=name, config=config, fingerprint=DATA, tracking_uri="sqlite:///x", run_id="0" * 32, state=state
    )
    RunFolder.of(str(storage), name).write(record)


def chosen(storage: Path, config: ExperimentConfig, data: str = DATA) -> str | None:
    """Returns the name of the run that is resumed; None for a new one."""
    folder, record = choose_run(wanted_run(config, data), str(storage))
    assert record is None or record.name == folder.name
    return None if record is None else folder.name


@pytest.mark.parametrize("state", ["running", "stopped", "failed"])
def test_the_same_command_resumes_its_newest_unfinished_run(tmp_path: Path, state: State) -> None:
    leave(tmp_path, "streets-20260101-000000", state=state)
    leave(tmp_path, "streets-20260102-000000", state=state)
    leave(tmp_path, "streets-20260103-000000", state="finished")
    assert chosen(tmp_path, STREETS) == "streets-20260102-000000"


def test_other_settings_other_data_and_no_resume_start_a_new_run(tmp_path: Path) -> None:
    leave(tmp_path, "streets-20260101-000000")
    assert chosen(tmp_path, with_overrides(STREETS, {"optimizer.lr": 0.5})) is None
    assert chosen(tmp_path, STREETS, data="f" * 16) is None
    assert chosen(tmp_path, with_overrides(STREETS, {"resume": False})) is None
    assert chosen(tmp_path / "elsewhere", STREETS) is None


def test_execution_settings_may_change(tmp_path: Path) -> None:
    leave(tmp_path, "streets-20260101-000000")
    other = {"num_workers": 2, "training.log_every": 1, "store": "/moved", "training.checkpoint_steps": 5}
    assert chosen(tmp_path, with_overrides(STREETS, other)) == "streets-20260101-000000"


def test_every_execution_field_is_a_field_of_the_config() -> None:
    assert set(flatten(STREETS.model_dump())) >= EXECUTION


def test_a_named_run_with_other_settings_is_rejected_with_both_values(tmp_path: Path) -> None:
    leave(tmp_path, "mine", with_overrides(STREETS, {"run_name": "mine"}))
    changed = with_overrides(STREETS, {"run_name": "mine", "optimizer.lr": 0.5, "loss.edge": 7.0})
    with pytest.raises(ResumeError, match=r"loss\.edge was 5\.0, is 7\.0; optimizer\.lr was 0\.05, is 0\.5\. Pass the"):
        chosen(tmp_path, changed)
    same = with_overrides(STREETS, {"run_name": "mine"})
    with pytest.raises(ResumeError, match="the store's fingerprint was 0123456789abcdef, is ffff"):
        chosen(tmp_path, same, data="f" * 16)
    assert chosen(tmp_path, same) == "mine"


def test_the_name_of_a_finished_run_and_of_a_folder_that_is_not_a_run_are_rejected(tmp_path: Path) -> None:
    leave(tmp_path, "done", state="finished")
    with pytest.raises(ResumeError, match=r"is already used in .* by a run that is finished"):
        chosen(tmp_path, with_overrides(STREETS, {"run_name": "done"}))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    with pytest.raises(ResumeError, match="exists and is not a run"):
        chosen(tmp_path, with_overrides(STREETS, {"run_name": "photos"}))
    assert chosen(tmp_path, with_overrides(STREETS, {"run_name": "new"})) is None


def test_a_run_whose_driver_is_running_is_not_resumed(tmp_path: Path) -> None:
    leave(tmp_path, "streets-20260101-000000")
    named = with_overrides(STREETS, {"run_name": "streets-20260101-000000"})
    with alive(RunFolder.of(str(tmp_path), "streets-20260101-000000")):
        assert chosen(tmp_path, STREETS) is None
        with pytest.raises(ResumeError, match=f"is running: process {os.getpid()} on "):
            chosen(tmp_path, named)
    assert chosen(tmp_path, named) == "streets-20260101-000000"


def test_a_run_whose_driver_was_killed_on_this_host_can_be_resumed_at_once(tmp_path: Path) -> None:
    leave(tmp_path, "streets-20260101-000000")
    code = (
        "import os, signal, sys\n"
        "from gscnn_platform.runs.alive import alive\n"
        "from gscnn_platform.runs.folder import RunFolder\n"
        "with alive(RunFolder(sys.argv[1])):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    folder = tmp_path / "streets-20260101-000000"
    killed = subprocess.Popen([sys.executable, "-c", code, str(folder)], env={**os.environ, "PYTHONPATH": ".:platform"})
    while psutil.Process(killed.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.1)
    assert (folder / ALIVE).exists()
    assert chosen(tmp_path, STREETS) == "streets-20260101-000000", "nobody has waited for its end yet"
    killed.wait()
    assert chosen(tmp_path, STREETS) == "streets-20260101-000000"


def test_a_driver_on_another_host_counts_as_dead_without_heartbeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(tmp_path, "streets-20260101-000000")
    monkeypatch.setattr(signs, "BEAT_SECONDS", 0.05)
    beat = tmp_path / "streets-20260101-000000" / ALIVE
    clock = {"now": 1000.0}

    def sleep(seconds: float) -> None:
        clock["now"] += seconds
        if beats:
            beat.write_text(json.dumps({"host": "elsewhere", "pid": 1, "began": 0.0, "at": clock["now"]}))

    monkeypatch.setattr(signs.time, "sleep", sleep)
    monkeypatch.setattr(signs.time, "time", lambda: clock["now"])
    for beats in (True, False):
        beat.write_text(json.dumps({"host": "elsewhere", "pid": 1, "began": 0.0, "at": clock["now"]}))
        assert chosen(tmp_path, STREETS) == (None if beats else "streets-20260101-000000")


def test_a_record_is_replaced_atomically_and_a_truncated_one_is_not_a_record(tmp_path: Path) -> None:
    leave(tmp_path, "mine")
    leave(tmp_path, "mine", state="stopped")
    found = RunFolder.of(str(tmp_path), "mine").read(RunRecord)
    assert found is not None
    assert found.state == "stopped"
    (tmp_path / "mine" / RECORD).write_text('{"name": "mi')
    assert RunFolder.of(str(tmp_path), "mine").read(RunRecord) is None


@pytest.mark.parametrize("name", ["../outside", "exp/lr 0.05", "", "..", "a\nb", "x" * 201])
def test_a_name_that_cannot_be_a_folder_is_rejected_before_anything_is_written(tmp_path: Path, name: str) -> None:
    storage = tmp_path / "runs"
    with pytest.raises(NamingError, match="--run-name"):
        chosen(storage, with_overrides(STREETS, {"run_name": name}))
    with pytest.raises(NamingError, match="--name"):
        chosen(storage, with_overrides(STREETS, {"name": name}))
    with pytest.raises(NamingError, match=r"--tracking\.experiment"):
        chosen(storage, with_overrides(STREETS, {"tracking.experiment": ""}))
    assert not list(tmp_path.iterdir())


def test_a_failed_start_leaves_nothing_and_leftovers_of_a_killed_start_are_reused(tmp_path: Path) -> None:
    named = with_overrides(STREETS, {"run_name": "x"})
    with pytest.raises(OSError, match="no server"), alive(RunFolder.of(str(tmp_path), "x")):
        raise OSError("no server")
    assert not list(tmp_path.iterdir())
    (tmp_path / "x" / "tracking" / "0").mkdir(parents=True)
    RunFolder.of(str(tmp_path), "x").write_json(ALIVE, {"host": "h", "pid": 1, "began": 0.0, "at": 0.0})
    (tmp_path / "x" / ".record.json.partial").touch()
    assert chosen(tmp_path, named) is None, "a new run"
    (tmp_path / "x" / RECORD).write_text('{"name": "mi')
    with pytest.raises(ResumeError, match=r"x/record\.json is damaged, of another kind or of another version"):
        chosen(tmp_path, named)


def test_a_start_in_progress_keeps_its_folder(tmp_path: Path) -> None:
    with alive(RunFolder.of(str(tmp_path), "x")), pytest.raises(ResumeError, match="is running: process"):
        chosen(tmp_path, with_overrides(STREETS, {"run_name": "x"}))


def test_a_folder_on_an_object_store_left_by_a_failed_start_can_be_used(remote: str) -> None:
    with pytest.raises(OSError, match="no server"), alive(RunFolder.of(remote, "x")):
        raise OSError("no server")
    wanted = wanted_run(with_overrides(STREETS, {"run_name": "x"}), DATA)
    assert choose_run(wanted, remote) == (RunFolder.of(remote, "x"), None)


def test_a_setting_that_an_older_record_lacks_counts_as_its_default(tmp_path: Path) -> None:
    """The record is written without any setting that has its default, so this covers future settings."""
    leave(tmp_path, "streets-20260101-000000")
    record = RunFolder.of(str(tmp_path), "streets-20260101-000000")
    written = record.read_json(RECORD)
    stated = STREETS.model_dump(mode="json", exclude_defaults=True)
    assert "schedule" in written["config"]["optimizer"]
    assert not stated["optimizer"].keys() & {"name", "schedule", "backbone_lr_factor"}
    record.write_json(RECORD, {**written, "config": stated})
    assert chosen(tmp_path, STREETS) == "streets-20260101-000000"
    assert chosen(tmp_path, with_overrides(STREETS, {"model.frozen_stages": 1})) is None
