"""Errors of remote file systems: which of them may pass, and how long reads and writes are tried again for those."""

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

Result = TypeVar("Result")

PATIENCE_SECONDS: Final = 120.0
"""How long reads and writes of a run under way go on trying, beyond the 6 s that Arrow takes over 31 attempts."""
FIRST_PAUSE: Final = 2.0
LONGEST_PAUSE: Final = 10.0
"""Seconds before a further attempt; each pause is twice the one before, up to the longest."""

PASSING: Final = re.compile(
    r"NETWORK_CONNECTION|SLOW_DOWN|THROTTL|INTERNAL_FAILURE|REQUEST_TIMEOUT|UNAVAILABLE|DEADLINE_EXCEEDED|curlCode|"
    r"HTTP status (5\d\d|429)|[Tt]imed? ?out|Connection"
)
"""What Arrow says of a network's errors and of a server's that has too much to do; it gives them no errno."""


class RemoteError(OSError):
    """What a remote file system says, with the URI, which Arrow's own error lacks."""

    def __init__(self, uri: str, message: str) -> None:
        super().__init__(message)
        self.filename, self.strerror = uri, message

    def __str__(self) -> str:
        return str(self.strerror)

    def __reduce__(self) -> tuple[type["RemoteError"], tuple[str, str]]:
        return RemoteError, (str(self.filename), str(self.strerror))


@contextmanager
def naming(uri: str) -> Iterator[None]:
    """Gives Arrow's errors of a network or a server the URI; those with an errno have a class that says what they are.

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
    """What `action` gives, tried again for a while where it raises an OSError that may pass: of a network, say.

    Raises:
        OSError: the last attempt's, or at once one that would come again.
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
    """Whether another attempt may not meet this error: it is a network's, or a server's that has too much to do."""
    if error.errno is not None:
        return isinstance(error, ConnectionError | TimeoutError)
    return bool(PASSING.search(str(error)))
