"""Signals to the driver of a training run."""

import signal

import pytest

from gscnn_platform import interrupts
from gscnn_platform.interrupts import InterruptedJobError
from gscnn_platform.training.stopping import Stopper


@pytest.mark.parametrize(("first", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_requests_a_checkpoint_and_the_second_ends_the_run_with_one_line(
    first: signal.Signals, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopper = Stopper()
    with stopper.listening():
        signal.raise_signal(first)
        assert stopper.stopping and stopper.number == first
        signal.raise_signal(first)  # At the same moment: `timeout` sends its own twice.
        monkeypatch.setattr(interrupts, "SAME_SECONDS", 0.0)
        with pytest.raises(InterruptedJobError, match="ended at once; rerun the command to resume") as ended:
            signal.raise_signal(first)
    assert ended.value.exit_status == status
    assert signal.getsignal(first) != stopper._stop


def test_a_closed_terminal_requests_a_checkpoint_however_often_it_is_signalled() -> None:
    stopper = Stopper()
    with stopper.listening():
        for _ in range(3):
            signal.raise_signal(signal.SIGHUP)
    assert stopper.number == signal.SIGHUP
