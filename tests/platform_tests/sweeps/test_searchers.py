import math
from itertools import product
from typing import Any

import pytest
from ray.tune.search import Searcher

from gscnn_platform.config import with_overrides
from gscnn_platform.recipes import RECIPES
from gscnn_platform.sweeps import SweepConfig, SweepError
from gscnn_platform.sweeps.domains import parse_domain
from gscnn_platform.sweeps.search_spaces import SEARCH_SPACES
from gscnn_platform.sweeps.searchers import NUMBER, number_of_trials, scheduler, searcher, tune_domain, within
from gscnn_platform.sweeps.space import SearchSpace

STREETS = SweepConfig.of(RECIPES["streets"])


def sweep(**changes: Any) -> SweepConfig:
    changed = with_overrides(STREETS, {key.replace("__", "."): value for key, value in changes.items()})
    return changed


def all_of(found: Searcher | None) -> list[dict[str, Any]]:
    assert found is not None
    trials = []
    while isinstance(given := found.suggest(f"trial {len(trials)}"), dict):
        trials.append(given)
    return trials


def test_a_grid_gives_every_combination_once_numbered_from_0() -> None:
    space = SEARCH_SPACES["ablation"]
    trials = all_of(searcher(sweep(), space))
    assert [trial.pop(NUMBER) for trial in trials] == list(range(15)) == list(range(number_of_trials(sweep(), space)))
    assert {(t["seed"], t["variant"]) for t in trials} == set(product((0, 1, 2), space.variants))
    assert len(all_of(searcher(sweep(num_trials=4), space))) == 4


def test_random_trials_depend_only_on_the_seed() -> None:
    space = SEARCH_SPACES["loss-small"]
    first, again, other = (
        all_of(searcher(sweep(search="random", num_trials=50, seed=seed), space)) for seed in (0, 0, 1)
    )
    assert first == again != other
    assert len({trial["loss.edge"] for trial in first}) == 50
    logs = [math.log(trial["loss.edge"]) for trial in first]
    assert min(logs) >= 0 and max(logs) <= math.log(50)
    assert sum(logs) / 50 == pytest.approx(math.log(50) / 2, abs=0.5), "uniform in the logarithm"


@pytest.mark.parametrize(
    "text",
    ["uniform(0, 1)", "loguniform(1, 50)", "quniform(0, 1, 0.25)", "randint(2, 5)", "choice(true, none, 3, a)"],
)
def test_a_tune_domain_has_the_values_of_its_text(text: str) -> None:
    domain = parse_domain(text)
    drawn = [tune_domain(domain).sample() for _ in range(200)]
    listed = domain.values()
    if listed is not None:
        assert {repr(value) for value in drawn} == {repr(value) for value in listed}
    else:
        low, high = domain.numbers
        assert all(low <= value <= high for value in drawn)


def test_a_searchers_suggestions_survive_a_restart(tmp_path: Any) -> None:
    space = SEARCH_SPACES["loss-small"]
    for kind in ("random", "optuna"):
        config = sweep(search=kind, num_trials=6)
        undisturbed, killed, resumed = (searcher(config, space) for _ in range(3))
        assert undisturbed is not None and killed is not None and resumed is not None
        expected = [undisturbed.suggest(str(number)) for number in range(4)]
        assert [killed.suggest(str(number)) for number in range(2)] == expected[:2]
        killed.save(str(tmp_path / kind))
        resumed.restore(str(tmp_path / kind))
        assert [resumed.suggest(str(number)) for number in (2, 3)] == expected[2:]


def test_optuna_samples_near_good_trials() -> None:
    found = searcher(sweep(search="optuna"), SEARCH_SPACES["loss-small"])
    assert found is not None
    values: list[float] = []
    for number in range(60):
        trial = found.suggest(str(number))
        assert trial is not None and trial[NUMBER] == number
        values.append(trial["loss.edge"])
        score = math.exp(-abs(math.log(trial["loss.edge"] / 20)))
        found.on_trial_complete(str(number), {"score": score, "training_iteration": 1})
    near = [abs(math.log(value / 20)) for value in values]
    assert sum(near[-20:]) < 0.5 * sum(near[:20])


def test_explicit_searches_are_rejected_with_pbt() -> None:
    space = SEARCH_SPACES["loss-small"]
    for kind in ("optuna", "grid"):
        with pytest.raises(SweepError, match=f"--search {kind} does not work with --scheduler pbt"):
            searcher(sweep(scheduler="pbt", search=kind), space)
    assert searcher(sweep(scheduler="pbt"), space) is None, "Tune draws"


@pytest.mark.parametrize(
    ("epochs", "every", "asked", "grace"), [(8, 1, None, 1), (175, 5, None, 25), (8, 4, None, 4), (40, 3, 7, 9)]
)
def test_grace_is_a_multiple_of_the_epochs_between_validations(
    epochs: int, every: int, asked: int | None, grace: int
) -> None:
    config = sweep(training__epochs=epochs, training__validate_every=every, grace_epochs=asked)
    assert config.grace == grace


@pytest.mark.parametrize("name", ["asha", "pbt", "fifo"])
def test_schedulers_accept_any_space(name: str) -> None:
    for space in SEARCH_SPACES.values():
        assert scheduler(sweep(scheduler=name), space) is not None


def test_trials_start_from_the_recipe() -> None:
    assert sweep(num_trials=3).trial_config == with_overrides(RECIPES["streets"], {"training.validate_at_start": False})
    assert number_of_trials(sweep(), SEARCH_SPACES["loss"]) == 16
    assert number_of_trials(sweep(), SearchSpace(description="", domains={"seed": "randint(0, 3)"}, search="grid")) == 3


def test_pbt_stays_within_the_domains() -> None:
    space = SEARCH_SPACES["loss"]
    low, high = (within(space.parsed(), dict.fromkeys(space.domains, far)) for far in (-1e9, 1e9))
    assert (low["loss.attention_threshold"], high["loss.attention_threshold"]) == (0.5, 0.95)
    assert (low["data.boundary_radius"], high["data.boundary_radius"]) == (1, 4), "randint leaves its end out"
