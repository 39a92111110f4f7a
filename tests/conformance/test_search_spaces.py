"""What every entry of SEARCH_SPACES must do."""

from itertools import product

import pytest

from gscnn_platform.config import EXECUTION
from gscnn_platform.recipes import RECIPES
from gscnn_platform.sweeps.domains import parse_domain
from gscnn_platform.sweeps.search_spaces import SEARCH_SPACES, find_space
from gscnn_platform.sweeps.space import SearchSpace, check

every_space = pytest.mark.parametrize("name", SEARCH_SPACES)

WITH_SHAPE_STREAM = [name for name, recipe in RECIPES.items() if recipe.model.architecture == "gscnn"]


@pytest.mark.parametrize(("name", "recipe"), list(product(SEARCH_SPACES, WITH_SHAPE_STREAM)))
def test_it_fits_every_recipe_that_has_a_shape_stream(name: str, recipe: str) -> None:
    check(SEARCH_SPACES[name], RECIPES[recipe])


@every_space
def test_it_is_found_by_its_name_and_says_what_it_finds_out(name: str) -> None:
    space = find_space(name)
    assert space is not None
    assert space is SEARCH_SPACES[name]
    assert space.description


@every_space
def test_its_texts_are_canonical_and_a_grid_can_be_listed(name: str) -> None:
    space = SEARCH_SPACES[name]
    for text in space.domains.values():
        assert str(parse_domain(text)) == text
    if space.search == "grid":
        trials = [tuple(trial.items()) for trial in space.grid()]
        assert trials
        assert len(set(trials)) == len(trials)


@every_space
def test_it_survives_json(name: str) -> None:
    space = SEARCH_SPACES[name]
    assert SearchSpace.model_validate_json(space.model_dump_json()) == space


@every_space
def test_it_searches_nothing_that_says_how_a_run_is_carried_out(name: str) -> None:
    space = SEARCH_SPACES[name]
    varied = {*space.domains, *(key for overrides in space.variants.values() for key in overrides)}
    assert varied
    assert not varied & EXECUTION
