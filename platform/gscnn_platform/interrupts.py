"""Handles Ctrl-C, SIGTERM and a closed terminal at any time: one line, the usual exit status, no partial output.

A job that is not writing ends at once, without unwinding. Output is written inside `leaving_nothing_behind`, where a
signal raises an exception, so that the block cleans up. A training run stops after a checkpoint instead
(gscnn_platform.training.stopping).
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final, NoReturn

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C; what `kill`, `ray job stop` and Kubernetes send first; and the signal of a closed terminal or ssh session."""
SAME_SECONDS: Final = 1.0
"""A signal that repeats within this time counts as the same one: `timeout` sends SIGTERM to a job and to its group, and
a closed terminal sends SIGHUP to both."""
NOTHING_MADE: Final = "nothing was made or changed; rerun the command to start again"


class InterruptedJobError(KeyboardInterrupt):
    """A signal ended the job; the message says what is left and what the same command does."""

    def __init__(self, number: int, after: str) -> None:
        super().__init__(f"{signal.Signals(number).name}: {after}")
        self.exit_status = exit_status(number)


class TrainingStoppedError(Exception):
    """A signal or a sweep ended the run before its last step; its last checkpoint is complete."""

    def __init__(self, message: str, number: int | None, as_planned: bool = False) -> None:
        super().__init__(message)
        self.as_planned = as_planned
        """Whether a sweep's scheduler stopped the run, so that it counts as finished."""
        self.exit_status = exit_status(number or signal.SIGTERM)


def exit_status(number: int) -> int:
    """Returns 128 plus the signal's number, as in shells."""
    return 128 + number


def end_at_once() -> None:
    """Installs handlers that end the process at once, with one line.

    An exception is not enough: during an import, Python prints its traceback, or drops it in a callback of the import
    system, and the job continues as if there had been no signal.
    """
    for number in heard():
        signal.signal(number, _end)


_says = NOTHING_MADE


def from_now_on(says: str) -> None:
    """Sets the message of a signal that ends the job at once, after the job has written something complete."""
    global _says
    _says = says


def heard() -> list[signal.Signals]:
    """Returns the SIGNALS that end a job: under `nohup`, a job ignores a closed terminal."""
    return [each for each in SIGNALS if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN]


def is_again(number: int, first: float) -> bool:
    """Returns whether a signal is a second request, to end at once; the first came at `first` of time.monotonic."""
    return number != signal.SIGHUP and time.monotonic() - first > SAME_SECONDS


def _end(number: int, frame: FrameType | None) -> NoReturn:
    tell_of_signal(number, _says)
    os._exit(exit_status(number))


def tell_of_signal(number: int, says: str, stream: int = 2) -> None:
    """Prints a line from a signal handler: it bypasses sys.stdout and sys.stderr, one of which may be in the middle of
    a write, and raises no error if nobody reads it any more."""
    with suppress(OSError):
        os.write(stream, f"\n{signal.Signals(number).name}: {says}\n".encode(errors="backslashreplace"))


@contextmanager
def leaving_nothing_behind(after: str) -> Iterator[None]:
    """Signals raise InterruptedJobError in the block, which cleans up as after any other error; a second one ends it.

    Outside the main thread, the only one that receives signals, the block runs unchanged.

    Args:
        after: what is left and what the same command does, for the message.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first: float | None = None
    raised: InterruptedJobError | None = None

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal first, raised
        if first is not None:
            if not is_again(number, first):
                return
            tell_of_signal(number, "ended in the middle of its clean-up: partial output may be left")
            os._exit(exit_status(number))
        first = time.monotonic()
        drop_dead_output()
        raised = InterruptedJobError(number, after)
        raise raised

    before = {number: signal.signal(number, stop) for number in heard()}
    try:
        yield
    except KeyboardInterrupt:
        # Ray's calls turn an exception from a signal handler into their own KeyboardInterrupt.
        raise raised or InterruptedJobError(signal.SIGINT, after) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_heard_one = False


def drop_dead_output() -> None:
    """Discards output that nobody reads any more, after a signal: the terminal is closed, or Ctrl-C has ended `| tee`
    as well. Printing would raise in the middle of a clean-up, or keep a run from its checkpoint."""
    global _heard_one
    _heard_one = True
    for stream in (1, 2):
        errors = select.poll()
        errors.register(stream, 0)
        if errors.poll(0):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


def tell(line: str) -> None:
    """Prints a line at once; raises BrokenPipeError if nobody reads it any more, but not after a signal."""
    try:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        if not _heard_one:
            raise
        drop_dead_output()
