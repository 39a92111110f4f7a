import math
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib
import numpy as np
import optuna
import pytest

from gscnn_platform.sweeps.domains import Domain, parse_domain
from gscnn_platform.sweeps.figures import TrialPoint, draw_sweep
from gscnn_platform.sweeps.figures.importance import RESAMPLES, importances
from gscnn_platform.sweeps.figures.points import EndedTrials, State
from gscnn_platform.sweeps.search_spaces import SEARCH_SPACES

PLANE = {"a": parse_domain("uniform(0, 1)"), "b": parse_domain("uniform(0, 1)"), "c": parse_domain("uniform(0, 1)")}
MIXED = {
    "optimizer.lr": parse_domain("loguniform(0.001, 0.1)"),
    "loss.edge": parse_domain("quniform(0, 20, 5)"),
    "training.epochs": parse_domain("randint(2, 9)"),
    "model.weights": parse_domain("choice(none, imagenet)"),
}
FAILED_COLOUR = (0xD5, 0x5E, 0x00)


def sampled(domain: Domain, random: np.random.Generator) -> Any:
    listed = domain.values()
    if listed is not None:
        return listed[int(random.integers(len(listed)))]
    low, high = domain.numbers
    if domain.kind == "loguniform":
        return math.exp(random.uniform(math.log(low), math.log(high)))
    return random.uniform(low, high)


def trials(
    count: int,
    domains: Mapping[str, Domain],
    score: Callable[[dict[str, Any]], float | None],
    states: tuple[State, ...] = ("finished",),
) -> list[TrialPoint]:
    random = np.random.default_rng(count)
    points = []
    for index in range(count):
        params = {key: sampled(domain, random) for key, domain in domains.items()}
        state = states[index % len(states)]
        points.append(TrialPoint(f"trial-{index}", params, score(params), 60.0 * (index + 1), 8, state))
    return points


def point(score: float | None, ended: float, state: State = "finished", epochs: int = 8) -> TrialPoint:
    return TrialPoint(f"at-{ended:g}", {"a": 0.5, "b": 0.5, "c": 0.5}, score, ended, epochs, state)


@pytest.mark.parametrize("count", [1, 3, 16, 200])
def test_sweeps_of_any_size_give_rgb_pictures_without_empty_ones(count: int) -> None:
    drawn = draw_sweep(trials(count, MIXED, lambda params: params["loss.edge"], ("finished", "stopped")), MIXED, "miou")
    expected = {"best_so_far", "slices"}
    expected |= {"parallel_coordinates"} if count > 1 else set()
    expected |= {"importance"} if count >= 2 * len(MIXED) else set()
    assert set(drawn) == expected
    for picture in drawn.values():
        assert picture.dtype == np.uint8
        assert picture.shape[2:] == (3,)
        assert (picture[0] == 255).all(), "nothing is cut at the upper edge"
        assert (picture[:, -1] == 255).all(), "nothing is cut at the right edge"


@pytest.mark.parametrize("name", ["ablation", "seeds"])
def test_spaces_with_only_categories_are_drawn(name: str) -> None:
    space = SEARCH_SPACES[name]
    random = np.random.default_rng(0)
    points = [
        TrialPoint(str(index), params, random.random(), 60 * index, 8, "finished")
        for index, params in enumerate(space.grid())
    ]
    drawn = draw_sweep(points, space.parsed(), "miou")
    assert set(drawn) == {"best_so_far", "slices", "parallel_coordinates"} | (
        {"importance"} if name == "ablation" else set()
    )


def test_a_sweep_without_any_score_has_no_figures() -> None:
    lost = [point(None, 1, "failed"), point(math.nan, 2), point(-math.inf, 3, "stopped"), point(0.9, 4, "failed")]
    assert draw_sweep(lost, PLANE, "miou") == {}
    assert draw_sweep([], PLANE, "miou") == {}


def test_trials_are_counted_by_state_and_a_failed_trial_is_never_the_best() -> None:
    sweep = EndedTrials(
        [point(0.9, 30, "failed"), point(0.5, 20), point(0.7, 10, "stopped"), point(math.nan, 5), point(0.6, 40)],
        PLANE,
        "miou",
    )
    assert [trial.ended for trial in sweep.scored] == [10, 20, 40]
    assert sweep.scores == [0.7, 0.5, 0.6]
    assert sweep.title == "5 trials: 2 finished, 1 stopped early, 2 failed\nbest miou 0.7: at-10"


def test_lost_trials_are_marked_in_every_figure_that_has_points() -> None:
    good = [point(0.5, 10), point(0.6, 20)]
    for points, expected in ((good, False), ([*good, point(None, 30, "failed")], True)):
        drawn = draw_sweep(points, PLANE, "miou")
        for name in ("best_so_far", "slices"):
            assert (drawn[name] == FAILED_COLOUR).all(axis=2).any() == expected


def test_stopped_and_finished_trials_look_different() -> None:
    finished, stopped = (
        draw_sweep([point(0.5, 10, state), point(0.6, 20)], PLANE, "miou") for state in ("finished", "stopped")
    )
    for name in ("best_so_far", "slices", "parallel_coordinates"):
        assert finished[name].shape != stopped[name].shape or (finished[name] != stopped[name]).any()


def test_importances_are_the_shares_of_variance_of_a_sum() -> None:
    """The variance shares of 3a + 2b + c with uniform keys are 9 : 4 : 1."""
    points = trials(80, PLANE, lambda params: 5 + 3 * params["a"] + 2 * params["b"] + params["c"])
    shares = importances(EndedTrials(points, PLANE, "miou"))
    assert list(shares) == ["a", "b", "c"]
    assert [values[0] for values in shares.values()] == pytest.approx([9 / 14, 4 / 14, 1 / 14], abs=0.1)
    assert all(len(values) == 1 + RESAMPLES for values in shares.values())


def test_importance_of_a_logarithmic_key_is_over_its_logarithm() -> None:
    """With x log-uniform, ln(x) / ln(1000) varies as much as a uniform key; on a linear axis it hardly varies."""
    domains = {"lr": parse_domain("loguniform(0.001, 1)"), "momentum": parse_domain("uniform(0, 1)")}
    points = trials(60, domains, lambda params: math.log(params["lr"]) / math.log(1000) + params["momentum"])
    shares = importances(EndedTrials(points, domains, "miou"))
    assert shares["lr"][0] == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize(
    ("domains", "count", "score"),
    [
        ({"a": PLANE["a"]}, 50, lambda params: params["a"]),
        ({"a": PLANE["a"], "fixed": parse_domain("choice(1)")}, 50, lambda params: params["a"]),
        (PLANE, 5, lambda params: params["a"]),
        (PLANE, 50, lambda _: 0.5),
    ],
    ids=["one key", "one key that varies", "too few trials", "equal scores"],
)
def test_importance_is_left_out_if_it_is_meaningless(
    domains: Mapping[str, Domain], count: int, score: Callable[[dict[str, Any]], float]
) -> None:
    points = trials(count, domains, score)
    assert importances(EndedTrials(points, domains, "miou")) == {}
    assert "importance" not in draw_sweep(points, domains, "miou")


def test_values_a_rounding_error_beyond_their_ends_are_accepted() -> None:
    domains = {"lr": parse_domain("loguniform(0.001, 0.1)"), "b": PLANE["b"]}
    ends = [math.nextafter(0.1, 1), math.nextafter(0.001, 0), 0.01, 0.02]
    points = [TrialPoint(str(i), {"lr": lr, "b": i / 4}, lr, i, 8, "finished") for i, lr in enumerate(ends)]
    assert "importance" in draw_sweep(points, domains, "miou")


def test_drawing_leaves_matplotlibs_and_optunas_settings_as_they_were() -> None:
    look, verbosity = dict(matplotlib.rcParams), optuna.logging.get_verbosity()
    draw_sweep(trials(8, PLANE, lambda params: params["a"]), PLANE, "miou")
    assert dict(matplotlib.rcParams) == look
    assert optuna.logging.get_verbosity() == verbosity


def test_a_very_long_name_stays_inside_the_picture() -> None:
    long = TrialPoint("n" * 300, {"a": 0.5, "b": 0.5, "c": 0.5}, 0.5, 60, 8, "finished")
    assert EndedTrials([long], PLANE, "miou").title.endswith("n" * 57 + "...")
    assert (draw_sweep([long], PLANE, "miou")["best_so_far"][:, -1] == 255).all()


def test_nearly_equal_scores_draw_no_importance() -> None:
    """Such as scores of trials that PBT cloned from each other in their last epochs."""
    scores = iter([0.0054, 0.0054, 0.00540000001, 0.0054, 0.0054, 0.0054])
    points = trials(6, PLANE, lambda params: next(scores))
    assert importances(EndedTrials(points, PLANE, "miou")) == {}
    assert "importance" not in draw_sweep(points, PLANE, "miou")
