"""Tracks whether a run's driver is still running: the driver touches alive.json in the run's folder."""

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
"""Seconds without a heartbeat after which a driver on another host counts as dead; on this host its process id is
checked."""


@contextmanager
def alive(folder: RunFolder) -> Iterator[None]:
    """Writes heartbeats of this process, the run's driver, while open; removes the folder if nothing else is in it."""
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "began": psutil.Process().create_time()}
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            # A full disk must not end the heartbeats.
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
        # If the storage does not answer, the missing heartbeats show that the driver has ended.
        with suppress(OSError):
            (folder.path / ALIVE).unlink()
            remove_if_empty(folder.location)


def is_driven(folder: RunFolder) -> bool:
    """Returns whether a run's or a sweep's driver is still running; on another host, after waiting for a heartbeat."""
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
    """Returns the driver for messages: `process 123 on HOST`."""
    try:
        owner = folder.read_json(ALIVE)
    except (FileNotFoundError, ValueError):
        return "it has just ended"
    return f"process {owner['pid']} on {owner['host']}"


def _lives(pid: int, began: float) -> bool:
    """Returns whether a process is running on this host. A zombie is not: a killed process keeps its id if its parent
    does not wait for it, as in a container without an init process."""
    try:
        process = psutil.Process(pid)
        return process.create_time() == began and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
