"""Ends a failed job with one message and an exit status."""

import errno
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from pydantic import ValidationError

from gscnn_platform.interrupts import InterruptedJobError, TrainingStoppedError, exit_status
from gscnn_platform.invalid_values import explain

FULL: Final = (errno.ENOSPC, errno.EDQUOT)
"""A full disk or an exhausted quota; if a write fails, the error names no file."""


@contextmanager
def user_errors() -> Iterator[None]:
    """Prints what a user can fix as one message instead of a traceback, and exits with status 1.

    A job that was stopped by a signal exits with the signal's usual status, 128 plus its number.
    """
    try:
        try:
            yield
        except SystemExit:
            sys.stdout.flush()  # Here and below, where a failure can still be reported.
            raise
        sys.stdout.flush()
    except TrainingStoppedError as stopped:
        _end(str(stopped), stopped.exit_status)
    except InterruptedJobError as stopped:
        _say(str(stopped))
        # Without unwinding further: a thread may still wait for Ray, and would crash while Python and Ray shut down.
        os._exit(stopped.exit_status)
    except (UnicodeError, json.JSONDecodeError):
        raise  # A ValueError without a message for users: a bug.
    except BrokenPipeError:
        # The reader of the output has exited, as `| head` does: nobody reads a message.
        _drop_output()
        sys.exit(exit_status(signal.SIGPIPE))
    except ValidationError as error:
        _end(explain(error), 1)
    except ValueError as error:
        _end(str(error), 1)
    except OSError as error:
        if error.strerror is None or (error.filename is None and error.errno not in FULL):
            raise
        _end(f"{error.filename or 'a file of this job, or its output'}: {error.strerror}", 1)


def _end(message: str, status: int) -> None:
    _say(message)
    sys.exit(status)


def _say(message: str) -> None:
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()
    with suppress(BrokenPipeError):  # As with `2>&1 | tee`, which Ctrl-C ends too.
        sys.stderr.write(f"\n{message}\n")
        sys.stderr.flush()


def _drop_output() -> None:
    """Discards output from now on, and what was not written yet: the interpreter would fail on it again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
