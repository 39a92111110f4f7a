from html.parser import HTMLParser

import numpy as np
import torch

from gscnn_platform.evaluation import Counts, EvalReport
from gscnn_platform.reporting.checkpoint_page import FramePicture, render
from gscnn_platform.reporting.checkpoint_pictures import confusion_picture, distance_picture

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
    assert sky[2:] == [f"{value:.3f}" for key, value in expected.items() if key not in ("class", "share")]
    [never] = [row for row in found.rows if row and row[0] == "never"]
    assert never[2:] == ["-"] * 7
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
