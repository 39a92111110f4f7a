"""Signals to the driver of a training."""

import signal

import pytest

from gscnn_platform.interrupts import InterruptedJobError
from gscnn_platform.training.stopping import Stopper


@pytest.mark.parametrize(("first", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_first_signal_asks_for_a_checkpoint_and_the_second_ends_the_run_with_one_line(
    first: signal.Signals, status: int
) -> None:
    stopper = Stopper()
    with stopper.listening():
        signal.raise_signal(first)
        assert stopper.stopping and stopper.number == first
        with pytest.raises(InterruptedJobError, match="ended at once; run the same command to resume") as ended:
            signal.raise_signal(first)
    assert ended.value.exit_status == status
    assert signal.getsignal(first) != stopper._stop
