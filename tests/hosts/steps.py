"""Collects the rows of docs/cluster.md's table, one a step that a user takes."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HEADER = "| step | seconds |\n| --- | --- |\n"


def note(step: str, seconds: float) -> None:
    """Adds a row to the file that HOSTS_TABLE names; without it, to none."""
    named = os.environ.get("HOSTS_TABLE")
    if named is None:
        return
    file = Path(named)
    before = file.read_text() if file.exists() else HEADER
    file.write_text(f"{before}| {step} | {seconds:.0f} |\n")


@contextmanager
def timed(step: str) -> Iterator[None]:
    """A row with the seconds of the block, if it ends well."""
    began = time.monotonic()
    yield
    note(step, time.monotonic() - began)
