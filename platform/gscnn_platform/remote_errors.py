"""Errors of remote file systems: which of them are transient, and how long reads and writes are retried."""

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

Result = TypeVar("Result")

PATIENCE_SECONDS: Final = 120.0
"""How long a run retries reads and writes, in addition to the 6 s that Arrow takes for 31 attempts."""
FIRST_PAUSE: Final = 2.0
LONGEST_PAUSE: Final = 10.0
"""Maximum seconds between attempts; each pause is twice the previous one, up to this."""

PASSING: Final = re.compile(
    r"NETWORK_CONNECTION|SLOW_DOWN|THROTTL|INTERNAL_FAILURE|REQUEST_TIMEOUT|UNAVAILABLE|DEADLINE_EXCEEDED|curlCode|"
    r"HTTP status (5\d\d|429)|[Tt]imed? ?out|Connection"
)
"""Arrow's messages for errors of a network or an overloaded server, which have no errno."""


class RemoteError(OSError):
    """A remote file system's error, with the URI, which Arrow's own error lacks."""

    def __init__(self, uri: str, message: str) -> None:
        super().__init__(message)
        self.filename, self.strerror = uri, message

    def __str__(self) -> str:
        return str(self.strerror)

    def __reduce__(self) -> tuple[type["RemoteError"], tuple[str, str]]:
        return RemoteError, (str(self.filename), str(self.strerror))


@contextmanager
def naming(uri: str) -> Iterator[None]:
    """Adds the URI to Arrow's network and server errors; errors with an errno already have a specific class.

    Raises:
        RemoteError: in place of an OSError without an errno.
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            raise
        raise RemoteError(uri, str(error)) from error


def patiently(action: Callable[[], Result], seconds: float = PATIENCE_SECONDS) -> Result:
    """Returns `action()`, retried for `seconds` if it raises a transient OSError, such as a network error.

    Raises:
        OSError: from the last attempt, or at once if it is not transient.
    """
    until, pause = time.monotonic() + seconds, FIRST_PAUSE
    while True:
        try:
            return action()
        except OSError as error:
            if not may_pass(error) or time.monotonic() + pause > until:
                raise
            sys.stderr.write(f"trying again in {pause:.0f} s: {error}\n")
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def may_pass(error: OSError) -> bool:
    """Returns whether an error is transient: from a network or an overloaded server."""
    if error.errno is not None:
        return isinstance(error, ConnectionError | TimeoutError)
    return bool(PASSING.search(str(error)))
