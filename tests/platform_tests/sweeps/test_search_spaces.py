import pytest

from gscnn_platform.config import ExperimentConfig, with_overrides
from gscnn_platform.recipes import RECIPES
from gscnn_platform.sweeps.domains import SearchSpaceError, parse_domain
from gscnn_platform.sweeps.search_spaces import SEARCH_SPACES
from gscnn_platform.sweeps.space import check

WITH_SHAPE_STREAM = [name for name in RECIPES if not name.endswith("-deeplab")]


NOT_OF_THE_PAPER = {"label_smoothing", "ohem_threshold", "ohem_share", "lovasz", "dice", "effective_number_beta"}


def test_loss_searches_every_setting_of_the_papers_terms_except_the_reference_weight() -> None:
    fields = {f"loss.{name}" for name in set(type(RECIPES["streets"].loss).model_fields) - NOT_OF_THE_PAPER}
    assert set(SEARCH_SPACES["loss"].domains) == fields - {"loss.seg"} | {"data.boundary_radius"}
    assert set(SEARCH_SPACES["loss-small"].domains) == {"loss.edge", "loss.attention"}


@pytest.mark.parametrize(("space", "key"), [("loss", "loss.edge"), ("optimizer", "optimizer.lr")])
def test_ranges_extend_to_both_sides_of_the_recipes_values(space: str, key: str) -> None:
    section, field = key.split(".")
    low, high = parse_domain(SEARCH_SPACES[space].domains[key]).numbers
    for name in WITH_SHAPE_STREAM:
        if space == "optimizer" and RECIPES[name].optimizer.name != "sgd":
            continue  # The space sets SGD, and the recipe's learning rate is AdamW's.
        assert low < getattr(getattr(RECIPES[name], section), field) < high


def test_seeds_changes_only_the_seed() -> None:
    assert SEARCH_SPACES["seeds"].grid() == [{"seed": seed} for seed in range(5)]


@pytest.mark.parametrize("recipe", WITH_SHAPE_STREAM)
def test_an_ablation_adds_one_part_at_a_time_to_the_control(recipe: str) -> None:
    space, base = SEARCH_SPACES["ablation"], RECIPES[recipe]
    trials = space.grid()
    assert len(trials) == 15
    assert [trial["variant"] for trial in trials[:5]] == list(space.variants), "all variants under the first seed first"

    def parts(config: ExperimentConfig) -> tuple[str, float, float, float]:
        return config.model.architecture, config.loss.edge, config.loss.attention, config.loss.dual

    edge, attention = base.loss.edge, base.loss.attention
    assert [parts(with_overrides(base, space.overrides(trial))) for trial in trials[:5]] == [
        ("deeplabv3plus", 0, 0, 0),
        ("gscnn", 0, 0, 0),
        ("gscnn", edge, 0, 0),
        ("gscnn", edge, attention, 0),
        ("gscnn", edge, attention, 1),
    ]
    rest = {"model.architecture": "gscnn", "loss.edge": 1, "loss.attention": 1, "loss.dual": 1, "seed": 0}
    for trial in trials:
        config = with_overrides(base, space.overrides(trial))
        assert config.seed == trial["seed"]
        assert with_overrides(config, rest) == with_overrides(base, rest), "nothing else changes"


def test_the_control_of_an_ablation_is_the_recipes_own() -> None:
    control = SEARCH_SPACES["ablation"].overrides({"variant": "control", "seed": 0})
    assert with_overrides(RECIPES["streets"], {**control, "name": "streets-deeplab"}) == RECIPES["streets-deeplab"]


def test_an_ablation_of_a_recipe_without_edge_losses_is_rejected() -> None:
    with pytest.raises(SearchSpaceError, match=r"'\+ shape stream' and '\+ edge loss' are the same on streets-deeplab"):
        check(SEARCH_SPACES["ablation"], RECIPES["streets-deeplab"])
