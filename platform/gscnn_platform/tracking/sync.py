"""Delivers the outboxes of runs that have ended."""

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from gscnn_platform.interrupts import from_now_on
from gscnn_platform.tracking.deleted import DeletedError, fate_of, restore
from gscnn_platform.tracking.outbox.errors import HeldError, TrackingError
from gscnn_platform.tracking.outbox.folders import find_outboxes
from gscnn_platform.tracking.outbox.journal import Journal
from gscnn_platform.tracking.outbox.left import Left, left_in
from gscnn_platform.tracking.outbox.outbox import Outbox, Say, silent
from gscnn_platform.tracking.outbox.parts import parts, run_of
from gscnn_platform.tracking.outboxes import to_mlflow
from gscnn_platform.tracking.uri import check_listening, check_no_password

PATIENCE: Final = 20.0
"""Seconds that jobs.sync-tracking waits while nothing can be delivered."""


def deliver(outbox: Path, patience: float, say: Say = silent, uri: str | None = None) -> Left:
    """Delivers all parts of an outbox that no other process holds.

    Args:
        outbox: the folder.
        patience: seconds to wait while nothing can be delivered.
        say: prints a line, if the server does not answer.
        uri: new tracking URI, if the server has moved.

    Returns:
        What the outbox still holds.
    """
    errors = []
    for part in parts(outbox):
        known = run_of(part)
        try:
            journal = Journal(part, replace(known, tracking_uri=uri or known.tracking_uri))
        except HeldError as error:
            errors.append(str(error))
            continue
        opened = Outbox(journal, to_mlflow, say).start()
        opened.close(patience)
        errors += [opened.error] if opened.error else []
    return left_in(outbox, "; ".join(errors) or None)


def _deliver_if_possible(outbox: Path, uri: str, restore_deleted: bool) -> Left:
    """Delivers an outbox, unless the server is down or the run was deleted: to wait for each run would take minutes."""
    try:
        check_listening(uri)
        _check_there(uri, run_of(parts(outbox)[-1]).run_id, restore_deleted)
    except (OSError, DeletedError) as error:
        return replace(left_in(outbox, str(error)), tracking_uri=uri)
    return deliver(outbox, PATIENCE, uri=uri)


def _check_there(uri: str, run_id: str, restore_deleted: bool) -> None:
    fate = fate_of(uri, run_id)
    if fate == "deleted" and restore_deleted:
        restore(uri, run_id)
    elif fate == "deleted":
        raise DeletedError(
            f"MLflow run {run_id} was deleted: restore it with --restore-deleted, or resume its training with "
            "--tracking.on-deleted new"
        )
    elif fate == "gone":
        raise DeletedError(
            f"MLflow run {run_id} is not there and cannot be restored: resume its training with "
            "--tracking.on-deleted new"
        )


def sync(folders: Iterable[Path], uri: str | None, say: Say, restore_deleted: bool = False) -> bool:
    """Delivers the outboxes of ended runs; prints one line per run.

    Args:
        folders: run folders, or folders that contain runs.
        uri: new tracking URI, if the server has moved; None: the URI of each run.
        say: prints a line.
        restore_deleted: whether to restore deleted MLflow runs.

    Returns:
        Whether everything was delivered.

    Raises:
        TrackingError: a folder has no outbox, or `uri` contains a password.
    """
    check_no_password(uri or "", "--uri")
    done = True
    from_now_on("what was delivered stays delivered; run the same command to deliver the rest")
    for outbox in find_outboxes(folders):
        try:
            before, began = left_in(outbox), time.monotonic()
            there = uri or before.tracking_uri
            left = _deliver_if_possible(outbox, there, restore_deleted) if before.waiting else before
        except (OSError, TrackingError) as error:  # Such as a colleague's folder: the other outboxes are delivered.
            say(f"{outbox} cannot be delivered: {error}")
            done = False
            continue
        if before.waiting and not left.waiting:
            say(f"{outbox}: {before.waiting} delivered to {left.tracking_uri} in {time.monotonic() - began:.1f} s")
        elif not before.waiting:
            say(f"{outbox}: nothing to deliver")
        if left:
            say(f"{outbox}: {left}")
        done = done and not left.waiting
    return done
