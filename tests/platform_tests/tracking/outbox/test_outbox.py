"""The outbox with a list in place of the server; for MLflow stores, see tests/platform_tests/tracking."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gscnn_platform.runs.ref import RunRef
from gscnn_platform.tracking.outbox.errors import TrackingError
from gscnn_platform.tracking.outbox.folders import find_outboxes, give_to
from gscnn_platform.tracking.outbox.journal import Journal, open_part
from gscnn_platform.tracking.outbox.left import left_in
from gscnn_platform.tracking.outbox.outbox import Connect, Outbox
from gscnn_platform.tracking.outbox.parts import Entry, parts, run_of

URI, RUN_ID = "http://made.up", "1" * 32


class ToList:
    """Delivers to a list, after a given number of errors."""

    def __init__(self, journal: Journal, arrived: list[Entry], errors: list[Exception]) -> None:
        self.journal, self.arrived, self.errors = journal, arrived, errors

    def some(self) -> bool:
        for entry, position in self.journal.pending():
            if self.errors:
                raise self.errors.pop()
            assert entry is not None
            self.arrived.append(entry)
            self.journal.mark_delivered(position)
            return True
        return False


def to_list(arrived: list[Entry], *errors: Exception) -> Connect:
    return lambda journal: ToList(journal, arrived, list(errors))


def opened(folder: Path, connect: Connect, say: Callable[[str], None] = print) -> Outbox:
    return Outbox(open_part(RunRef(folder, URI, RUN_ID)), connect, say)


def test_entries_arrive_in_order_and_once(tmp_path: Path) -> None:
    arrived: list[Entry] = []
    outbox = opened(tmp_path, to_list(arrived))
    outbox.metrics([(1, {"a": 0.5})])
    outbox.tags({"b": "c"})
    outbox.status("FINISHED", {})
    assert not outbox.start().close(patience=5)
    again = opened(tmp_path, to_list(arrived))
    again.metrics([(1, {"a": 0.7}), (2, {"a": 0.9})])
    assert not again.start().close(patience=5)
    assert [entry["kind"] for entry in arrived] == ["metrics", "tags", "status", "metrics"]
    assert arrived[-1]["steps"] == [[2, {"a": 0.9}]]


def test_an_error_is_retried_and_reported_after_the_second_attempt(tmp_path: Path) -> None:
    arrived: list[Entry] = []
    said: list[str] = []
    outbox = opened(tmp_path, to_list(arrived, TrackingError("no rights"), OSError("refused")), said.append)
    outbox.tags({"b": "c"})
    assert not outbox.start().close(patience=5)
    assert len(arrived) == 1
    assert said == [
        f"tracking: no rights; metrics wait in {tmp_path}, training continues",
        "tracking: the server answers, metrics are delivered",
    ]


def test_undelivered_entries_are_reported_with_the_command_that_delivers_them(tmp_path: Path) -> None:
    outbox = opened(tmp_path, to_list([], *(OSError("refused") for _ in range(99))))
    outbox.metrics([(1, {"a": 0.5}), (2, {"a": 0.5})])
    left = outbox.start().close(patience=0)
    assert left.waiting == "metrics of 2 steps"
    assert f"python -m jobs.sync-tracking {tmp_path}" in str(left)


def test_an_outbox_assigned_to_another_run_delivers_everything_again(tmp_path: Path) -> None:
    arrived: list[Entry] = []
    outbox = opened(tmp_path / "run" / "tracking", to_list(arrived))
    outbox.tags({"b": "c"})
    outbox.start().close(patience=5)
    [folder] = find_outboxes([tmp_path])
    give_to(RunRef(folder, URI, RUN_ID), "2" * 32)
    [part] = parts(folder)
    assert run_of(part).run_id == "2" * 32
    assert left_in(folder).waiting == "tags"
    with pytest.raises(TrackingError, match=f"holds metrics of MLflow run {'2' * 32}, not of {'1' * 32}"):
        Journal(part, RunRef(folder, URI, RUN_ID))
