"""Whether a run's driver still runs: it touches alive.json in the run's folder."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import psutil

from gscnn_platform.paths import remove_if_empty
from gscnn_platform.runs.folder import ALIVE, RunFolder, usable

BEAT_SECONDS: Final = 5.0
DEAD_SECONDS: Final = 20.0
"""Seconds without a sign of life after which a driver on another host counts as dead; on this host its process id is
checked."""


@contextmanager
def alive(folder: RunFolder) -> Iterator[None]:
    """Says, while open, that this process drives the run; a folder that has got nothing else by then is removed."""
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "began": psutil.Process().create_time()}
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            # A full disk must not end the signs of life.
            with suppress(OSError):
                folder.write_json(ALIVE, {**owner, "at": time.time()})

    with usable(folder.storage):
        folder.write_json(ALIVE, {**owner, "at": time.time()})
    thread = threading.Thread(target=beat, name="alive", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        # Where the storage does not answer, silence tells.
        with suppress(OSError):
            (folder.path / ALIVE).unlink()
            remove_if_empty(folder.location)


def is_driven(folder: RunFolder) -> bool:
    """Whether a run's or a sweep's driver still runs; for another host, after waiting for a sign of life."""
    while True:
        try:
            owner = folder.read_json(ALIVE)
        except (FileNotFoundError, ValueError):
            return False
        if owner["host"] == socket.gethostname():
            return _lives(owner["pid"], owner["began"])
        silence = time.time() - owner["at"]
        if silence < 0 or silence > DEAD_SECONDS:
            return False
        before = owner["at"]
        time.sleep(2 * BEAT_SECONDS)
        try:
            if folder.read_json(ALIVE)["at"] != before:
                return True
        except (FileNotFoundError, ValueError):
            return False


def owner_of(folder: RunFolder) -> str:
    """`process 123 on HOST`, for messages."""
    try:
        owner = folder.read_json(ALIVE)
    except (FileNotFoundError, ValueError):
        return "it has just ended"
    return f"process {owner['pid']} on {owner['host']}"


def _lives(pid: int, began: float) -> bool:
    """Whether this process of this host runs; one that was killed and that nobody waits for, as in a container whose
    first process is no init, keeps its number and does not."""
    try:
        process = psutil.Process(pid)
        return process.create_time() == began and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
