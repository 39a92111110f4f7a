"""What every entry of SCORES must do, and that each is shown wherever scores are."""

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.comparison import CURVES, Contender, compare, overall, table, title
from gscnn_platform.config import EXECUTION, Metric, TrainingConfig
from gscnn_platform.evaluation import Counts, EvalReport, summary
from gscnn_platform.reporting.checkpoint_page import render
from gscnn_platform.reporting.contender_page import render_comparison
from gscnn_platform.reporting.start import compare_runs
from gscnn_platform.scores import MIOU, SCORES, Score, place_of
from gscnn_platform.sweeps.config import SweepConfig
from tests.tracked import tracked

CLASSES = ("road", "sky", "pole")

every_score = pytest.mark.parametrize("score", SCORES, ids=[score.key for score in SCORES])
BY_CLASS = [score for score in SCORES if score.by_class is not None]
every_score_by_class = pytest.mark.parametrize("score", BY_CLASS, ids=[score.key for score in BY_CLASS])


STRIPES = torch.arange(3).repeat_interleave(20).repeat(20, 1)
"""A label [20, 60] of three upright stripes, one of each class."""
SHIFTED = STRIPES.roll(14, dims=1)
"""Farther than the largest radius of boundary F and than the rings of boundary IoU are wide."""
VOID = torch.full_like(STRIPES, IGNORE_INDEX)


def counts_of(*labels: tuple[Tensor, Tensor]) -> Counts:
    """Of pairs of prediction and ground truth."""
    counts = Counts.empty(len(CLASSES))
    for prediction, truth in labels:
        counts.update(prediction, truth)
    return counts


def test_keys_and_titles_are_unique() -> None:
    assert len({score.key for score in SCORES}) == len({score.title for score in SCORES}) == len(SCORES)
    columns = [score.column for score in SCORES if score.column is not None]
    assert len(set(columns)) == len(columns)
    by_class = [score.by_class for score in SCORES if score.by_class is not None]
    for names in zip(*((each.key, each.title, each.column) for each in by_class), strict=True):
        assert len(set(names)) == len(names)


@every_score
def test_it_is_1_for_the_ground_truth_and_less_for_another_prediction(score: Score) -> None:
    assert summary(counts_of((STRIPES, STRIPES)))[score.key] == 1
    assert 0 <= summary(counts_of((SHIFTED, STRIPES)))[score.key] < 1


@every_score
def test_of_nothing_it_is_no_number(score: Score) -> None:
    assert math.isnan(summary(counts_of())[score.key])
    assert math.isnan(summary(counts_of((STRIPES, VOID)))[score.key])


@every_score
def test_a_validation_has_it_under_its_key(score: Score) -> None:
    counts = counts_of((SHIFTED, STRIPES))
    assert score.value(counts.measured()) == EvalReport(CLASSES, counts).metrics("val")[score.tracked_as]


@every_score
def test_it_can_be_maximized_where_the_table_says_so(score: Score) -> None:
    assert (score.key in get_args(Metric)) == score.can_be_best
    for config, field in ((TrainingConfig, "best_metric"), (SweepConfig, "metric")):
        if score.can_be_best:
            settings = {"name": "x"} if config is SweepConfig else {}
            assert config.model_validate({**settings, field: score.key}).model_dump()[field] == score.key
        else:
            with pytest.raises(ValueError, match=rf"'{MIOU.key}'"):
                config.model_validate({field: score.key})


@every_score
def test_an_evaluation_shows_it(score: Score) -> None:
    counts = counts_of((SHIFTED, STRIPES))
    report, value = EvalReport(CLASSES, counts), summary(counts)[score.key]
    assert report.as_data()["summary"][score.key] == value
    assert f"{value:.3f}" in report.table()
    page = render("title", {}, {"model": report}, [(0, 0, 0)] * 3, [], b"", b"")
    row = page[page.index(f"<tr><td>{score.title}</td>") :]
    assert f"{value:.3f}" in row[: row.index("</tr>")]


@every_score
def test_a_comparison_shows_it_and_takes_it_as_metric(score: Score) -> None:
    run = tracked("run", 0.5, curves={score.tracked_as: {1: 0.25, 2: 0.5}})
    contender = Contender("run", (run,))
    assert score.title in [row.title for row in overall([contender])]
    header = table([contender], score.tracked_as).header
    assert header[1] == score.title == title(score.tracked_as)
    if score is not MIOU:
        shown = table([contender], MIOU.tracked_as).header
        assert (score.column in shown) == (score.column is not None)
    with pytest.raises(ValueError, match=f"did you mean .*{score.tracked_as}"):
        compare_runs(["no run"], None, score.key, "page.html")


@every_score_by_class
def test_its_mean_over_classes_is_the_score(score: Score) -> None:
    assert score.by_class is not None
    counts = counts_of((SHIFTED.clamp(max=1), STRIPES))
    measured = counts.measured()
    values = [value for value in score.by_class.values(measured) if not math.isnan(value)]
    assert len(score.by_class.values(measured)) == len(CLASSES)
    assert score.value(measured) == pytest.approx(sum(values) / len(values))


@every_score_by_class
def test_an_evaluation_shows_its_classes(score: Score) -> None:
    assert score.by_class is not None
    counts = counts_of((SHIFTED, STRIPES))
    report, values = EvalReport(CLASSES, counts), score.by_class.values(counts.measured())
    assert [row[score.by_class.key] for row in report.per_class()] == list(values)
    assert score.by_class.column in report.table().splitlines()[0]
    page = render("title", {}, {"model": report}, [(0, 0, 0)] * 3, [], b"", b"")
    assert f">{score.by_class.column}</th>" in page


@every_score_by_class
def test_a_validation_has_its_classes_where_they_are_tracked_and_a_comparison_shows_them(score: Score) -> None:
    assert score.by_class is not None
    counts = counts_of((SHIFTED, STRIPES))
    keys = [f"{score.by_class.tracked_as}{name}" for name in CLASSES]
    metrics = EvalReport(CLASSES, counts).metrics("val")
    if not score.by_class.tracked:
        assert not set(keys) & set(metrics)
        return
    values = dict(zip(keys, score.by_class.values(counts.measured()), strict=True))
    assert {key: metrics[key] for key in keys} == values
    assert all(CURVES.fullmatch(key) for key in keys)
    assert title(keys[0]) == f"{score.by_class.title} of road"
    run = tracked("run", 0.5, curves={key: {2: value} for key, value in values.items()})
    page = render_comparison(compare([run], EXECUTION), [])
    assert f"<th>{score.by_class.title} of class</th>" in page


def test_what_is_no_score_comes_last() -> None:
    keys = ["val/other", *(score.tracked_as for score in reversed(SCORES))]
    assert sorted(keys, key=place_of) == [*(score.tracked_as for score in SCORES), "val/other"]
