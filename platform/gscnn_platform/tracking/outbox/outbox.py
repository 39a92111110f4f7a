"""Accepts metrics, pictures and models without waiting, and delivers them in the background."""

import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final, Protocol, Self

from gscnn_platform.tracking.outbox.errors import TrackingError
from gscnn_platform.tracking.outbox.journal import Journal
from gscnn_platform.tracking.outbox.left import Left, left_in
from gscnn_platform.tracking.outbox.parts import Entry, entries, parts

POLL: Final = 1.0
"""Seconds between checks of the journal, and between its flushes to the disk."""
PAUSES: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds to wait after the first, second, ... failed attempt; the last value applies from then on."""
NOISE: Final = 2
"""Consecutive failed attempts before the user is notified: a SQLite file is occasionally locked."""

Say = Callable[[str], None]
Steps = Sequence[tuple[int, Mapping[str, float]]]


def silent(line: str) -> None:
    """Prints nothing."""


class Delivery(Protocol):
    """Sends a journal to the server."""

    def some(self) -> bool:
        """Sends the entries that fit into one request and marks them as delivered; returns whether there were any.

        After any error the outbox retries later. It reports a TrackingError without its class name.
        """
        ...


Connect = Callable[[Journal], Delivery]


class Outbox:
    """Accepts a run's entries at the cost of a file write, and delivers them in its own thread.

    No method but `close` waits for the server, and none raises because of it.

    Args:
        journal: the part of an outbox to write to and to deliver.
        connect: returns the journal's delivery; called in the outbox's thread before the first entry is sent.
        say: prints a line, when the server stops answering and when it answers again.
    """

    def __init__(self, journal: Journal, connect: Connect, say: Say = silent) -> None:
        self.journal = journal
        self.folder = journal.folder.parent
        self.error: str | None = None
        """Why the last attempt to deliver failed."""
        self._connect, self._say = connect, say
        self._delivery: Delivery | None = None
        self._closing, self._given_up = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._deliver, name="outbox", daemon=True)

    def start(self) -> Self:
        """Starts the delivery; returns the outbox."""
        self._thread.start()
        return self

    def metrics(self, steps: Steps) -> None:
        """Adds values of steps, in order. A key's steps up to its highest known one are repeated and are skipped."""
        new = self._new(steps)
        if new:
            self._append({"kind": "metrics", "time": _now(), "steps": new})

    @cached_property
    def _reached(self) -> dict[str, int]:
        """Highest step per key in all parts."""
        reached: dict[str, int] = {}
        for part in parts(self.folder):
            for entry in entries(part, "metrics"):
                for step, values in entry["steps"]:
                    reached |= {key: step for key in values if step > reached.get(key, -1)}
        return reached

    def _new(self, steps: Steps) -> list[tuple[int, dict[str, float]]]:
        new = []
        for step, values in steps:
            fresh = {key: float(value) for key, value in values.items() if step > self._reached.get(key, -1)}
            self._reached.update(dict.fromkeys(fresh, step))
            if fresh:
                new.append((step, fresh))
        return new

    def system(self, values: Mapping[str, float]) -> None:
        """Adds the machine's current load; its step is the number of seconds since the run was created."""
        self._append({"kind": "system", "time": _now(), "values": dict(values)})

    def tags(self, tags: Mapping[str, str]) -> None:
        self._append({"kind": "tags", "tags": dict(tags)})

    def values_at(self, step: int, keys: Sequence[str]) -> dict[str, float]:
        """Returns the values of those of the keys that have one at a step, from all parts."""
        found: dict[str, float] = {}
        for part in parts(self.folder):
            for entry in entries(part, "metrics"):
                for at, values in entry["steps"]:
                    if at == step:
                        found |= {key: values[key] for key in keys if key in values}
        return found

    def note(self, text: str) -> None:
        """Sets the run's description, in Markdown."""
        self._append({"kind": "note", "text": text})

    def artifact(self, source: Path | bytes, to: str, name: str) -> None:
        """Adds a file, a folder's content, or bytes, to an artifact folder.

        Args:
            source: is copied or linked, and may be deleted afterwards.
            to: artifact folder.
            name: of the file; ignored for a folder.

        Raises:
            OSError: the outbox cannot be written, for example because the disk is full.
        """
        self._append({"kind": "artifact", "kept": self.journal.keep(source, name), "to": to})

    def summary(self, values: Mapping[str, float]) -> None:
        """Adds metrics of the whole run."""
        self._append(
            {"kind": "summary", "time": _now(), "values": {key: float(value) for key, value in values.items()}}
        )

    def best(self, values: Mapping[str, float], checkpoint: Path, to: str, model: Path | None) -> None:
        """Adds the best checkpoint's metrics, its files, and its model as a folder, if there is one.

        Raises:
            OSError: the outbox cannot be written, for example because the disk is full.
        """
        numbers, when = {key: float(value) for key, value in values.items()}, _now()
        kept = None if model is None else self.journal.keep(model, "model")
        of_model = {"kind": "model", "id": self._model_id(values), "time": when, "values": numbers, "kept": kept}
        self._append(
            {"kind": "summary", "time": when, "values": numbers},
            {"kind": "artifact", "kept": self.journal.keep(checkpoint, "checkpoint"), "to": to},
            *([of_model] if kept else []),
        )

    def knows_best(self, values: Mapping[str, float]) -> bool:
        """Returns whether the outbox has a model with these values, as after a driver was killed right after `best`."""
        name = self._model_id(values)
        return any(entry["id"] == name for part in parts(self.folder) for entry in entries(part, "model"))

    def _model_id(self, values: Mapping[str, float]) -> str:
        named = ",".join(f"{key}={float(value)!r}" for key, value in sorted(values.items()))
        return f"{self.journal.run.run_id}-{zlib.crc32(named.encode()):08x}"

    def status(self, status: str, tags: Mapping[str, str]) -> None:
        """Sets the status, RUNNING, FINISHED, FAILED or KILLED, and the reason as tag `failure` or `stopped`."""
        self._append({"kind": "status", "time": _now(), "status": status, "tags": dict(tags)})
        if self.journal.fault is not None:
            self.journal.use_reserve()

    def _append(self, *new: Entry) -> None:
        before = self.journal.fault
        self.journal.append(*new)
        if self.journal.fault is not None and before is None:
            self._say(f"tracking: metrics wait in memory until {self.folder} can be written: {self.journal.fault}")

    def close(self, patience: float, limit: float = float("inf")) -> Left:
        """Delivers what is left, if the outbox was started, and releases the folder.

        Args:
            patience: seconds to wait while nothing can be delivered.
            limit: maximum seconds to wait in total.

        Returns:
            What the outbox still holds.
        """
        self._closing.set()
        began = moved = time.monotonic()
        position = self.journal.delivered
        while self._thread.is_alive():
            self._thread.join(0.05)
            now = time.monotonic()
            if self.journal.delivered != position:
                position, moved = self.journal.delivered, now
            if now - moved > patience or now - began > limit:
                # The thread ends, and releases the folder, after its current request.
                self._given_up.set()
                self._thread.join(0.2)
                break
        else:
            self.journal.close()
        fault = self.journal.fault
        lost = f"lost, since {self.folder} could not be written: {fault}" if fault else None
        return left_in(self.folder, self.error, lost)

    def _deliver(self) -> None:
        failed = 0
        try:
            while not self._given_up.is_set():
                last = self._closing.is_set()
                more = self._attempt()
                if self.error is not None:
                    failed += 1
                    if failed == NOISE:
                        self._say(f"tracking: {self.error}; metrics wait in {self.folder}, training continues")
                    pause = PAUSES[min(failed, len(PAUSES)) - 1]
                    (self._given_up if last else self._closing).wait(min(pause, POLL) if last else pause)
                    continue
                if failed >= NOISE:
                    self._say("tracking: the server answers, metrics are delivered")
                failed = 0
                if last and not more:
                    return
                if not more:
                    self._closing.wait(POLL)
        finally:
            self.journal.close()

    def _attempt(self) -> bool:
        """Sends one request; returns whether there was anything to send, and sets `error`."""
        try:
            self.journal.sync()
            if self._delivery is None:
                if self.journal.delivered == self.journal.size:
                    return False
                self._delivery = self._connect(self.journal)
            sent = self._delivery.some()
        # Artifact stores raise error classes that are not installed everywhere, such as botocore's. After any error the
        # entry stays first in line and is sent again.
        except Exception as error:
            kind = "" if isinstance(error, TrackingError) else f"{type(error).__name__}: "
            self.error = f"{kind}{error}".splitlines()[0][:300]
            return False
        self.error = None
        return sent


def _now() -> int:
    """Returns the time in milliseconds since 1970."""
    return int(time.time() * 1000)
