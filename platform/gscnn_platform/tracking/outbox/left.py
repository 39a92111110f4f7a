"""The undelivered content of an outbox, as counts and as text."""

import shlex
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gscnn_platform.tracking.outbox.parts import ROWS, parts, refused, run_of, undelivered


@dataclass(frozen=True)
class Left:
    """The undelivered content of an outbox, and how to deliver it; false if there is none."""

    outbox: Path
    tracking_uri: str
    steps: int = 0
    """Undelivered steps, epochs and samples of the machine's load."""
    others: Mapping[str, int] = field(default_factory=dict)
    """Kind of other undelivered entries -> count."""
    refused: Sequence[str] = ()
    """The server's reason for each rejected entry."""
    lost: str | None = None
    """Message about entries that could not be written to the disk."""
    error: str | None = None
    """Why the entries were not delivered, if known."""

    def __bool__(self) -> bool:
        return bool(self.steps or self.others or self.refused or self.lost)

    @property
    def waiting(self) -> str:
        """The undelivered entries as text: `metrics of 120 steps, artifact (2), status`; empty if there are none."""
        what = [f"metrics of {self.steps} steps"] if self.steps else []
        return ", ".join(what + [f"{kind} ({number})" if number > 1 else kind for kind, number in self.others.items()])

    def __str__(self) -> str:
        lines = []
        if self.waiting:
            because = f": {self.error}" if self.error else ""
            command = f"python -m jobs.sync-tracking {shlex.quote(str(self.outbox))}"
            lines += [
                f"not delivered to {self.tracking_uri}: {self.waiting}{because}",
                f"to deliver it, on {socket.gethostname()}: {command}",
            ]
        if self.refused:
            lines.append(
                f"rejected by {self.tracking_uri}, see {self.outbox}/*/refused.jsonl: {len(self.refused)} entries, the "
                f"first one with: {self.refused[0]}"
            )
        return "\n".join([*lines, *([self.lost] if self.lost else [])])


def left_in(outbox: Path, error: str | None = None, lost: str | None = None) -> Left:
    """Returns the undelivered entries of all parts of an outbox, whichever process holds them."""
    folders = parts(outbox)
    waiting = [entry for folder in folders for entry in undelivered(folder)]
    return Left(
        outbox,
        tracking_uri=run_of(folders[-1]).tracking_uri if folders else "",
        steps=sum(len(entry.get("steps", [0])) for entry in waiting if entry["kind"] in ROWS),
        others=Counter(entry["kind"] for entry in waiting if entry["kind"] not in ROWS),
        refused=[reason for folder in folders for reason in refused(folder)],
        lost=lost,
        error=error,
    )
