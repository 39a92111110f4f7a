import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gscnn_platform import tracking
from gscnn_platform.runs.ref import RunRef
from gscnn_platform.tracking import writer as writing
from gscnn_platform.tracking.description import WIDTH, describe
from gscnn_platform.tracking.outboxes import open_outbox

URI = "sqlite:////data/o'brien's runs/mlflow.db"
RUN = RunRef(Path("/outbox"), URI, "f00d" * 8)


def scores(miou: float) -> dict[str, float]:
    return {"val/miou": miou, "val/pixel_accuracy": 0.9, "val/boundary_f_3px": 0.6, "val/boundary_f_5px": 0.7}


def cells(description: str) -> list[list[str]]:
    """The cells of the description's table, without its rule."""
    rows = [line.split("|")[1:-1] for line in description.splitlines() if line.startswith("|")]
    return [[cell.replace("&nbsp;", "").strip() for cell in row] for row in rows if row[0] != "---"]


def test_the_description_has_the_scores_that_matter_of_the_last_and_of_the_best_epoch() -> None:
    described = describe(RUN, "street_s · epoch 3/8", {3: scores(0.25), 2: scores(0.5)}, best=2, picture=None)
    assert described.startswith(r"**street\_s · epoch 3/8**")
    assert cells(described) == [
        ["", "mIoU", "pixel accuracy", "boundary F 3 px", "boundary IoU 2%"],
        ["epoch 3", "0.250", "0.900", "0.600", "-"],
        ["epoch 2, the best so far", "0.500", "0.900", "0.600", "-"],
    ]
    assert "get-artifact" not in described


def test_the_description_shows_the_picture_itself_and_links_to_its_full_size() -> None:
    described = describe(RUN, "caption", {3: scores(0.25)}, best=3, picture=3)
    [shown] = re.findall(r"!\[.+?\]\((.+?)\)", described)
    # Relative, so that it works behind any server; without a scheme, so that the UI's filter lets it through.
    assert shown == f"get-artifact?path=validation/last.jpg&run_uuid={RUN.run_id}"
    assert f"(get-artifact?path=validation/epoch-003.png&run_uuid={RUN.run_id})" in described


def test_the_description_has_a_command_that_compares_the_run() -> None:
    [command] = re.findall("``(.+?)``", describe(RUN, "caption", {}, None, None))
    assert shlex.split(command) == ["python", "-m", "jobs.compare", RUN.run_id, "OTHER_RUN", "--uri", URI]


def test_the_description_follows_the_training_and_knows_the_best_epoch_after_a_resume(tmp_path: Path) -> None:
    def described(epoch: int, miou: float, best: int) -> list[list[str]]:
        outbox = open_outbox(RunRef(tmp_path / "tracking", "sqlite:////nowhere", "f" * 32))
        writer = tracking.RunWriter(outbox)
        writer.log_steps([(epoch, scores(miou) | {"train/total": 1.0})])
        writer.describe(f"epoch {epoch}", epoch, scores(miou), best)
        notes = [entry["text"] for entry, _ in outbox.journal.pending() if entry and entry["kind"] == "note"]
        outbox.close(patience=0)
        return [row[:2] for row in cells(notes[-1])[1:]]

    assert described(1, 0.5, best=1) == [["epoch 1, the best so far", "0.500"]]
    # By another writer, as after a crash.
    assert described(2, 0.25, best=1) == [["epoch 2", "0.250"], ["epoch 1, the best so far", "0.500"]]


def test_the_shown_picture_is_small_whatever_the_size_of_the_epochs(tmp_path: Path) -> None:
    outbox = open_outbox(RunRef(tmp_path / "tracking", "sqlite:////nowhere", "f" * 32))
    tracking.RunWriter(outbox).describe("caption", 1, {}, picture=np.zeros((900, 1463, 3), np.uint8))
    [full, small] = sorted((tmp_path / "tracking").rglob("*.*g"), key=lambda file: file.suffix, reverse=True)
    outbox.close(patience=0)
    with Image.open(full) as image:
        assert image.size == (1463, 900)
    with Image.open(small) as image:
        assert image.size == (WIDTH, 394)


def test_a_full_disk_costs_the_picture_and_not_the_description(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox, said = open_outbox(RunRef(tmp_path / "tracking", "sqlite:////nowhere", "f" * 32)), list[str]()

    def full(*arguments: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(outbox, "artifact", full)
    writing.RunWriter(outbox, said.append).describe("caption", 1, {}, picture=np.zeros((4, 6, 3), np.uint8))
    [(entry, _)] = list(outbox.journal.pending())
    outbox.close(patience=0)
    assert said == ["tracking: no picture of epoch 1: no space left"]
    assert entry is not None and entry["kind"] == "note" and "get-artifact" not in entry["text"]
