"""Signals to a job in a separate process: what it prints, its exit status, and what it leaves."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from gscnn_platform.interrupts import InterruptedJobError, leaving_nothing_behind

ROOT = Path(__file__).resolve().parents[2]


def interrupted(code: str, folder: Path, number: int, times: int = 1, apart: float = 0.2) -> tuple[int, str]:
    """Returns exit status and stderr of a program that prints "ready" and then gets a signal."""
    process = started(code, folder, subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for _ in range(times):
        process.send_signal(number)
        time.sleep(apart)
    _, error = process.communicate(timeout=20)
    return process.returncode, error


def started(code: str, folder: Path, output: int) -> subprocess.Popen[str]:
    program = "from gscnn_platform.interrupts import *\nfrom gscnn_platform.command_line.errors import user_errors\n"
    program += "import time\nfrom pathlib import Path\nend_at_once()\n" + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=folder,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}"},
        stdout=output,
        stderr=output,
        text=True,
    )


STATUS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.mark.parametrize(("number", "status"), STATUS)
def test_before_any_output_a_signal_ends_a_job_at_once_with_one_line(number: int, status: int, tmp_path: Path) -> None:
    # It ends even where an exception would be swallowed.
    code = """
        print("ready", flush=True)
        while True:
            try:
                time.sleep(0.01)
            except BaseException:
                pass
    """
    found, error = interrupted(code, tmp_path, number)
    assert found == status
    assert error == f"\n{signal.Signals(number).name}: nothing was made or changed; rerun the command to start again\n"


@pytest.mark.parametrize(("number", "status"), STATUS)
def test_partial_output_is_cleaned_up(number: int, status: int, tmp_path: Path) -> None:
    code = """
        with user_errors(), leaving_nothing_behind("nothing partial is left"):
            Path("partial").touch()
            try:
                print("ready", flush=True)
                time.sleep(30)
            finally:
                Path("partial").unlink()
    """
    assert interrupted(code, tmp_path, number) == (
        status,
        f"\n{signal.Signals(number).name}: nothing partial is left\n",
    )
    assert not list(tmp_path.iterdir())


def test_a_second_signal_ends_a_hanging_clean_up(tmp_path: Path) -> None:
    code = """
        with leaving_nothing_behind("nothing is left"):
            try:
                print("ready", flush=True)
                time.sleep(30)
            finally:
                time.sleep(30)
    """
    began = time.monotonic()
    assert interrupted(code, tmp_path, signal.SIGINT, times=2, apart=1.2) == (
        130,
        "\nSIGINT: ended in the middle of its clean-up: partial output may be left\n",
    )
    assert time.monotonic() - began < 15


def test_a_signal_that_arrives_twice_as_from_timeout_does_not_end_the_clean_up(tmp_path: Path) -> None:
    code = """
        with user_errors(), leaving_nothing_behind("nothing is left"):
            try:
                print("ready", flush=True)
                time.sleep(30)
            finally:
                time.sleep(0.5)
                Path("cleaned").touch()
    """
    assert interrupted(code, tmp_path, signal.SIGTERM, times=2, apart=0.1) == (143, "\nSIGTERM: nothing is left\n")
    assert (tmp_path / "cleaned").exists()


def test_signal_handlers_are_as_before_after_the_block() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(InterruptedJobError, match="SIGINT: all is well"), leaving_nothing_behind("all is well"):
        signal.raise_signal(signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_after_output_was_written_a_signal_reports_that_it_is_complete(tmp_path: Path) -> None:
    code = """
        from_now_on("the store is whole")
        print("ready", flush=True)
        time.sleep(30)
    """
    assert interrupted(code, tmp_path, signal.SIGTERM) == (143, "\nSIGTERM: the store is whole\n")


def test_a_job_under_nohup_ignores_a_closed_terminal(tmp_path: Path) -> None:
    code = """
        import signal
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        end_at_once()
        with leaving_nothing_behind("nothing is left"):
            print("ready", flush=True)
            time.sleep(0.5)
    """
    assert interrupted(code, tmp_path, signal.SIGHUP) == (0, "")


def test_a_closed_terminal_does_not_prevent_the_clean_up(tmp_path: Path) -> None:
    code = """
        with user_errors(), leaving_nothing_behind("nothing is left"):
            try:
                print("ready", flush=True)
                time.sleep(30)
            finally:
                print("cleaning up", flush=True)
                Path("cleaned").touch()
    """
    ours, terminal = os.openpty()
    process = started(code, tmp_path, terminal)
    assert os.read(ours, 5) == b"ready"
    os.close(terminal)
    os.close(ours)
    process.send_signal(signal.SIGHUP)
    assert process.wait(20) == 129
    assert (tmp_path / "cleaned").exists()


def test_ctrl_c_that_also_ends_tee_does_not_prevent_the_checkpoint(tmp_path: Path) -> None:
    """The reader may end before the signal arrives, or a moment later."""
    code = """
        from gscnn_platform.training.stopping import Stopper
        stopper = Stopper()
        with user_errors(), stopper.listening():
            tell("ready")
            while not stopper.stopping:
                time.sleep(0.01)
            time.sleep(0.5)
            tell("a line of progress")
            Path("checkpoint").touch()
            raise TrainingStoppedError("stopped after step 3", stopper.number)
    """
    for seconds in (-0.2, 0.2):
        process = started(code, tmp_path, subprocess.PIPE)
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        if seconds < 0:
            process.stdout.close()
        process.send_signal(signal.SIGINT)
        time.sleep(abs(seconds))
        process.stdout.close()
        assert process.wait(20) == 130
        assert process.stderr.read() == "\nstopped after step 3\n"
        process.stderr.close()
        (tmp_path / "checkpoint").unlink()


def test_an_interrupt_that_a_library_reraises_keeps_signal_and_message() -> None:
    """Ray does this to an exception that a handler raises during one of its calls."""
    with pytest.raises(InterruptedJobError, match="SIGTERM: all is well"), leaving_nothing_behind("all is well"):
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise KeyboardInterrupt from None
