import errno
import io
import math
import os
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.config import EvaluateConfig, ExperimentConfig
from gscnn_platform.data.store import Store
from gscnn_platform.evaluation import Counts, EvalReport
from gscnn_platform.figures import Panels
from gscnn_platform.machine import MachineError
from gscnn_platform.reporting import job
from gscnn_platform.reporting.job import chosen_frames, page_path
from gscnn_platform.reporting.page import FramePicture, render
from gscnn_platform.reporting.pictures import (
    BOTH_COLOUR,
    PREDICTED_COLOUR,
    TRUTH_COLOUR,
    Window,
    confusion_picture,
    distance_picture,
    frame_picture,
    outlined,
    worst_windows,
)
from gscnn_platform.reporting.templates import write_page
from tests.saved import save_checkpoint

CLASSES = ("road", "<b>sky</b>", "never")
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))


def report(seed: int) -> EvalReport:
    """Three classes, of which the last is neither there nor predicted, on two frames of blocks."""
    rng = np.random.default_rng(seed)
    whole, crop = Counts.empty(3), Counts.empty(3)
    frames = []
    for _ in range(2):
        truth = np.kron(rng.integers(0, 2, (4, 4)), np.ones((8, 8), int))
        prediction = np.where(rng.random(truth.shape) < 0.1 * (seed + 1), 1 - truth, truth)
        for counts, part in ((whole, slice(None)), (crop, slice(4, -4))):
            counts.update(torch.from_numpy(prediction[part]), torch.from_numpy(truth[part]))
        frames.append(float((prediction == truth).mean()))
    return EvalReport(CLASSES, whole, {100: crop}, frames)


def panels(truth: np.ndarray, prediction: np.ndarray) -> Panels:
    grey = np.full((*truth.shape, 3), 60, np.uint8)
    return Panels(grey, truth, prediction, np.zeros(truth.shape, np.float32), np.zeros(truth.shape, np.float32))


class Reader(HTMLParser):
    """Collects the cells of all tables and what the page loads."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.loaded: list[str] = []
        self.scripts = 0
        self.in_cell = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.in_cell = True
        self.loaded += [value or "" for key, value in attrs if key in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        self.in_cell = self.in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.in_cell:
            self.rows[-1][-1] += data.strip()


def page(*reports: EvalReport) -> Reader:
    named = {f"model {index}": each for index, each in enumerate(reports)}
    curves = {name: each.distance_curve() for name, each in named.items()}
    confusions = {name: each.whole.confusion.counts.numpy() for name, each in named.items()}
    frame = FramePicture("best frame", confusion_picture(confusions, CLASSES))
    pictures = distance_picture(curves), confusion_picture(confusions, CLASSES)
    return Reader(render("title", {"data": "drawn"}, named, COLOURS, [frame], *pictures))


def test_a_page_shows_every_class_with_the_reports_figures_and_loads_nothing() -> None:
    first = report(0)
    found = page(first)
    [sky] = [row for row in found.rows if row and row[0] == "<b>sky</b>"]
    expected = first.per_class()[1]
    shown = [expected["iou"], *expected["boundary_f"].values()]
    assert sky[2:] == [f"{value:.3f}" for value in shown]
    [never] = [row for row in found.rows if row and row[0] == "never"]
    assert never[2:] == ["-"] * 5
    assert found.scripts == 0
    assert len(found.loaded) == 3
    assert all(source.startswith("data:image/png;base64,") for source in found.loaded)


def test_two_models_stand_side_by_side_with_the_seconds_difference_to_the_first() -> None:
    first, second = report(0), report(2)
    found = page(first, second)
    [road] = [row for row in found.rows if row and row[0] == "road"]
    ious = [float(each.scores.iou[0]) for each in (first, second)]
    assert road[2:5] == [f"{ious[0]:.3f}", f"{ious[1]:.3f}", f"{ious[1] - ious[0]:+.3f}"]
    assert ious[1] < ious[0]
    [miou] = [row for row in found.rows if row and row[0] == "mIoU" and len(row) == 4]
    assert miou[3] == f"{second.scores.miou - first.scores.miou:+.3f}"


def test_of_one_model_the_best_median_and_worst_frames_are_chosen() -> None:
    scores = [0.3, 0.9, math.nan, 0.1, 0.5]
    assert chosen_frames([scores]) == {"best frame": 1, "median frame": 4, "worst frame": 3}
    assert chosen_frames([[0.3]]) == {"worst frame": 0}
    assert chosen_frames([[math.nan]]) == {}


def test_of_two_models_the_frames_where_each_is_ahead_are_chosen() -> None:
    assert chosen_frames([[0.3, 0.9, 0.5], [0.8, 0.2, 0.5]]) == {
        "most in favour of the first model": 1,
        "median difference": 2,
        "most in favour of the second model": 0,
    }


def test_crops_are_taken_where_the_errors_are_and_do_not_overlap() -> None:
    truth = np.zeros((80, 120), np.uint8)
    truth[:, 60:] = 1
    prediction = truth.copy()
    prediction[10:20, 56:60] = 1
    prediction[60:64, 60:62] = 0
    first, *others = worst_windows(truth, [prediction])
    assert (first.height, first.width) == (20, 30)
    errors = (prediction != truth)[first.slices].sum()
    assert errors == 40, "all of the larger patch of errors"
    assert (prediction != truth)[others[0].slices].sum() == 8
    covered = np.zeros(truth.shape, int)
    for window in (first, *others):
        covered[window.slices] += 1
    assert covered.max() == 1


def test_a_frame_without_errors_shows_where_it_is_right() -> None:
    truth = np.zeros((80, 120), np.uint8)
    truth[40:] = 1
    assert worst_windows(truth, [truth])
    assert worst_windows(np.zeros((80, 120), np.uint8), [truth * 0]) == []


def test_outlines_show_truth_prediction_and_where_they_agree() -> None:
    truth, prediction = np.zeros((40, 60), np.uint8), np.zeros((40, 60), np.uint8)
    truth[:, 20:] = 1
    prediction[:20, 20:] = 1
    prediction[20:, 40:] = 1
    picture = outlined(panels(truth, prediction), Window(0, 0, 40, 60))
    assert picture.shape == (480, 720, 3)
    assert tuple(picture[100, 240]) == BOTH_COLOUR
    assert tuple(picture[400, 240]) == TRUTH_COLOUR
    assert tuple(picture[400, 480]) == PREDICTED_COLOUR
    assert tuple(picture[400, 120]) == (60, 60, 60)


def test_outlines_against_void_are_not_drawn() -> None:
    truth, prediction = np.zeros((40, 60), np.uint8), np.ones((40, 60), np.uint8)
    truth[:, 30:] = IGNORE_INDEX
    prediction[:, 45:] = 0
    picture = outlined(panels(truth, prediction), Window(0, 0, 40, 60))
    assert (picture == 60).all()


@pytest.mark.parametrize("models", [("",), ("one", "two")])
def test_a_frames_picture_is_a_png_of_readable_size(models: tuple[str, ...]) -> None:
    truth = np.zeros((48, 64), np.uint8)
    truth[20:] = 1
    views = {name: panels(truth, np.roll(truth, 3, axis=0)) for name in models}
    picture = frame_picture(views, "frame", ((255, 0, 0), (0, 255, 0)), worst_windows(truth, [np.roll(truth, 3, 0)]))
    assert Image.open(io.BytesIO(picture)).size[0] == 1320


def full(file: Path, content: bytes) -> int:
    """Path.write_bytes on a disk that is full."""
    with file.open("wb") as opened:
        opened.write(content[:1])
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_page_that_a_full_disk_does_not_take_leaves_the_one_before_and_names_the_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "pages" / "page.html"
    write_page(page, "before ß", "--report")
    link = tmp_path / "link.html"
    link.symlink_to(page)
    write_page(link, "again", "--report")
    assert link.is_symlink() and page.read_text(encoding="utf-8") == "again"
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(MachineError, match=r"page\.html cannot be written: .*; name another file by --report"):
        write_page(page, "after", "--report")
    assert [file.name for file in page.parent.iterdir()] == ["page.html"]
    assert page.read_text(encoding="utf-8") == "again"


def test_the_page_of_two_models_of_long_names_has_a_name_that_a_disk_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [f"{'x' * 200} {end}" for end in ("a1b2c3", "d4e5f6")]
    config = EvaluateConfig(checkpoint="unused", store="unused", split="s" * 200)
    pages = {page_path(config, order) for order in (names, names[::-1], names[:1])}
    for page in pages:
        write_page(page, "page", "--report")
    assert len(list((tmp_path / "runs" / "evaluation").iterdir())) == 3
    with pytest.raises(ValueError, match=r"--report is .*, which is a folder: name a file"):
        page_path(config.model_copy(update={"report": str(tmp_path)}), names)


def test_a_checkpoint_against_itself_and_a_page_that_cannot_be_are_refused_before_anything_is_counted(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job, "evaluate", None)
    save_checkpoint(tmp_path / "checkpoint", tiny_run, streets_store)
    config = EvaluateConfig(checkpoint=str(tmp_path / "checkpoint"), store=str(streets_store.path))
    with pytest.raises(ValueError, match="--checkpoint and --compare are the same checkpoint, streets "):
        job.evaluate_checkpoint(config.model_copy(update={"compare": config.checkpoint}))
    with pytest.raises(ValueError, match=r"--report is .*, which is a folder: name a file"):
        job.evaluate_checkpoint(config.model_copy(update={"report": str(tmp_path)}))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
