"""How a job ends that cannot go its way: one message, and a status that says why."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError

from gscnn_platform.interrupts import InterruptedJobError, TrainingStoppedError, exit_status
from gscnn_platform.invalid_values import explain


@contextmanager
def user_errors() -> Iterator[None]:
    """Prints what a user can fix as one message rather than a traceback, and ends with status 1.

    A job that a signal has ended has the signal's usual status, 128 and its number.
    """
    try:
        yield
    except (TrainingStoppedError, InterruptedJobError) as stopped:
        _end(str(stopped), stopped.exit_status)
    except UnicodeError:
        raise  # A ValueError that says nothing to a user: a fault of ours.
    except BrokenPipeError:
        # Who reads our output has left, as `| head` does: nobody is there to be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(exit_status(signal.SIGPIPE))
    except ValidationError as error:
        _end(explain(error), 1)
    except ValueError as error:
        _end(str(error), 1)
    except OSError as error:
        if error.filename is None or error.strerror is None:
            raise
        _end(f"{error.filename}: {error.strerror}", 1)


def _end(message: str, status: int) -> None:
    sys.stdout.flush()
    sys.stderr.write(f"\n{message}\n")
    sys.exit(status)
