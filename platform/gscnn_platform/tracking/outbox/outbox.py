"""Accepts metrics, pictures and models at once, and delivers them in the background when the server answers."""

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
"""Seconds between looks at the journal, and so between its trips to the disk."""
PAUSES: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds before the next attempt, after so many failed ones; the last holds from then on."""
NOISE: Final = 2
"""Failed attempts in a row before the user hears of them: SQLite is locked now and then."""

Say = Callable[[str], None]
Steps = Sequence[tuple[int, Mapping[str, float]]]


def silent(line: str) -> None:
    """Says nothing."""


class Delivery(Protocol):
    """Sends a journal to the server."""

    def some(self) -> bool:
        """Sends one request's worth of entries and marks them as delivered; returns whether there was anything to send.

        Any error means: try again later. A TrackingError is told as it is.
        """
        ...


Connect = Callable[[Journal], Delivery]


class Outbox:
    """Accepts a run's entries at the cost of a file write, and delivers them in its own thread.

    No method but `close` waits for the server, and none raises because of it.

    Args:
        journal: the part of an outbox to write to and to deliver.
        connect: opens the journal's delivery; called before the first entry is sent, in the outbox's thread.
        say: hears, in a line, when the server stops answering and when it answers again.
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
        """Starts to deliver."""
        self._thread.start()
        return self

    def metrics(self, steps: Steps) -> None:
        """Values of steps, in order. Of each key, steps up to the highest that it has had are left out as redone."""
        new = self._new(steps)
        if new:
            self._append({"kind": "metrics", "time": _now(), "steps": new})

    @cached_property
    def _reached(self) -> dict[str, int]:
        """Highest step of each key in all parts."""
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
        """The machine's load now; its step is the seconds since the run was created."""
        self._append({"kind": "system", "time": _now(), "values": dict(values)})

    def tags(self, tags: Mapping[str, str]) -> None:
        self._append({"kind": "tags", "tags": dict(tags)})

    def artifact(self, source: Path | bytes, to: str, name: str, note: str | None = None) -> None:
        """A file, a folder's content, or bytes, into an artifact folder.

        Args:
            source: copied or linked, so that it may be deleted.
            to: artifact folder.
            name: of the file; of a folder it does not matter.
            note: the run's description from then on, in Markdown.

        Raises:
            OSError: the disk is full, say.
        """
        described: list[Entry] = [] if note is None else [{"kind": "note", "text": note}]
        self._append({"kind": "artifact", "kept": self.journal.keep(source, name), "to": to}, *described)

    def summary(self, values: Mapping[str, float]) -> None:
        """Metrics of the run as a whole."""
        self._append(
            {"kind": "summary", "time": _now(), "values": {key: float(value) for key, value in values.items()}}
        )

    def best(self, values: Mapping[str, float], checkpoint: Path, to: str, model: Path) -> None:
        """The best checkpoint's metrics, its files, and its model as a folder.

        Raises:
            OSError: the disk is full, say.
        """
        numbers, when = {key: float(value) for key, value in values.items()}, _now()
        kept = self.journal.keep(model, "model")
        self._append(
            {"kind": "summary", "time": when, "values": numbers},
            {"kind": "artifact", "kept": self.journal.keep(checkpoint, "checkpoint"), "to": to},
            {"kind": "model", "id": self._model_id(values), "time": when, "values": numbers, "kept": kept},
        )

    def knows_best(self, values: Mapping[str, float]) -> bool:
        """Whether `best` took a model with these values before, as of a driver that was killed right after."""
        name = self._model_id(values)
        return any(entry["id"] == name for part in parts(self.folder) for entry in entries(part, "model"))

    def _model_id(self, values: Mapping[str, float]) -> str:
        named = ",".join(f"{key}={float(value)!r}" for key, value in sorted(values.items()))
        return f"{self.journal.run.run_id}-{zlib.crc32(named.encode()):08x}"

    def status(self, status: str, tags: Mapping[str, str]) -> None:
        """RUNNING, FINISHED, FAILED or KILLED from now on, and the reason as tag `failure` or `stopped`."""
        self._append({"kind": "status", "time": _now(), "status": status, "tags": dict(tags)})
        if self.journal.fault is not None:
            self.journal.use_reserve()

    def _append(self, *new: Entry) -> None:
        before = self.journal.fault
        self.journal.append(*new)
        if self.journal.fault is not None and before is None:
            self._say(f"tracking: metrics wait in memory until {self.folder} can be written: {self.journal.fault}")

    def close(self, patience: float, limit: float = float("inf")) -> Left:
        """Delivers what is left, where it was started, and lets go of the folder.

        Args:
            patience: seconds to wait while nothing gets through.
            limit: seconds to wait in all.

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
                # The thread ends, and lets go of the folder, after the request that it is in.
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
        """Sends what one request takes; returns whether it sent anything, and sets `error`."""
        try:
            self.journal.sync()
            if self._delivery is None:
                if self.journal.delivered == self.journal.size:
                    return False
                self._delivery = self._connect(self.journal)
            sent = self._delivery.some()
        # Stores of artifacts raise classes of their own that are not installed everywhere, such as botocore's.
        # Whatever it is, the entry stays first in line and is sent again.
        except Exception as error:
            kind = "" if isinstance(error, TrackingError) else f"{type(error).__name__}: "
            self.error = f"{kind}{error}".splitlines()[0][:300]
            return False
        self.error = None
        return sent


def _now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)
