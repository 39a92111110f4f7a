"""Finds the folders of outboxes, moves them aside, and assigns them to another run."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from gscnn_platform.runs.ref import RunRef
from gscnn_platform.tracking.outbox.errors import TrackingError
from gscnn_platform.tracking.outbox.journal import Journal
from gscnn_platform.tracking.outbox.left import left_in
from gscnn_platform.tracking.outbox.outbox import Say
from gscnn_platform.tracking.outbox.parts import HEADER, parts, read_json, write_run


def find_outboxes(folders: Iterable[Path]) -> list[Path]:
    """Returns the outboxes in the given folders, which may be outboxes, run folders or storage folders.

    Raises:
        TrackingError: there is no outbox in a folder.
    """
    found: list[Path] = []
    for folder in folders:
        headers = [path for depth in range(1, 4) for path in folder.absolute().glob("*/" * depth + HEADER)]
        if not headers:
            raise TrackingError(
                f"{folder} holds no outbox: name a run's folder, or a storage folder with runs; those of runs whose "
                "storage is a URI are in ~/gscnn-runs/outbox of the machine that started them"
            )
        found += sorted(path.parent.parent for path in headers)
    return list(dict.fromkeys(found))


def make_way(run: RunRef, say: Say) -> None:
    """Moves aside the outbox of an earlier run with the same name.

    Args:
        run: the new run.
        say: prints the new place, if the outbox has undelivered entries.
    """
    place = run.outbox
    others = [known["run_id"] for part in parts(place) if (known := read_json(part / HEADER)) is not None]
    other = next((each for each in others if each != run.run_id), None)
    if other is None:
        return
    left = left_in(place)
    aside = place.with_name(f"{place.name}-{other[:8]}")
    place.rename(aside)
    if left.waiting:
        say(f"tracking: an earlier run of this name has undelivered data, now in {aside}: {left.waiting}")


def give_to(run: RunRef, new: str) -> None:
    """Assigns a run's outbox to another run: all its entries will be delivered again, to the other run.

    Args:
        run: the run that owns the outbox; there may be no outbox yet.
        new: id of the other run.
    """
    for part in parts(run.outbox):
        journal = Journal(part)
        try:
            (part / "delivered.json").unlink(missing_ok=True)
            (part / "refused.jsonl").unlink(missing_ok=True)
            write_run(part, replace(run, run_id=new))
        finally:
            journal.close()
    (run.outbox / "steps.json").unlink(missing_ok=True)
