from itertools import product

import pytest

from gscnn_platform.config import EXECUTION, flatten, with_overrides
from gscnn_platform.recipes import RECIPES, STREETS
from gscnn_platform.sweeps.domains import SearchSpaceError
from gscnn_platform.sweeps.space import SearchSpace, check, with_sets

BOTH = SearchSpace(
    description="",
    domains={"seed": "choice(0, 1)", "loss.dual": "choice(0, 0.5, 1)"},
    variants={"a": {"loss.edge": 1}, "b": {"loss.edge": 2, "optimizer.lr": 0.5}},
    search="grid",
)


def test_a_grid_is_the_product_of_all_values_with_the_variants_changing_fastest() -> None:
    expected = [
        {"seed": seed, "loss.dual": dual, "variant": variant}
        for seed, dual, variant in product((0, 1), (0, 0.5, 1), ("a", "b"))
    ]
    assert BOTH.grid() == expected


def test_a_continuous_or_too_large_grid_is_an_error_with_the_key() -> None:
    with pytest.raises(SearchSpaceError, match=r"loss\.edge: a grid cannot list loguniform\(1, 50\)"):
        with_sets(BOTH, ["loss.edge=loguniform(1, 50)"]).grid()
    with pytest.raises(SearchSpaceError, match=r"the grid has 2400 trials \(seed 400, loss\.dual 3, variant 2\)"):
        with_sets(BOTH, ["seed=randint(0, 400)"]).grid()


def test_a_sampled_trial_becomes_overrides_including_its_variants() -> None:
    sampled = {"variant": "b", "seed": 1, "loss.dual": 0.5}
    assert BOTH.overrides(sampled) == {"loss.edge": 2, "optimizer.lr": 0.5, "seed": 1, "loss.dual": 0.5}
    assert sampled["variant"] == "b"


def test_the_command_line_adds_and_replaces_keys_and_the_last_one_applies() -> None:
    space = with_sets(BOTH, ["seed=choice(7)", "loss.dual = choice(1)", "seed=choice(8, 9)"])
    assert dict(space.domains) == {"seed": "choice(8, 9)", "loss.dual": "choice(1)"}
    assert space.variants == BOTH.variants
    assert dict(BOTH.domains)["seed"] == "choice(0, 1)"
    for text in ("seed", "seed:choice(1)"):
        with pytest.raises(SearchSpaceError, match="has no '='"):
            with_sets(BOTH, [text])
    with pytest.raises(SearchSpaceError, match=r"--set '=choice\(1\)' has no key"):
        with_sets(BOTH, ["=choice(1)"])


@pytest.mark.parametrize(
    ("sets", "search"),
    [
        (["seed=choice(1, 2)"], "grid"),
        (["seed=randint(1, 9)"], "optuna"),
        (["seed=choice(1, 2)", "loss.edge=uniform(1, 2)"], "optuna"),
    ],
)
def test_choices_are_enumerated_and_ranges_are_sampled(sets: list[str], search: str) -> None:
    assert with_sets(None, sets).search == search
    assert with_sets(BOTH, sets).search == search
    assert with_sets(BOTH.model_copy(update={"search": "random"}), sets).search == "random"


def test_variants_can_be_narrowed_by_name() -> None:
    space = with_sets(BOTH, ["variant=choice(b)"])
    check(space, STREETS)
    assert {trial["variant"] for trial in space.grid()} == {"b"}
    with pytest.raises(SearchSpaceError, match="no variant named 'c'; there are: a, b"):
        check(with_sets(BOTH, ["variant=choice(b, c)"]), STREETS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loss.egde=uniform(0, 1)", "'loss.egde' is not a field of the config: did you mean loss.edge"),
        ("loss=choice(1)", "'loss' is not a field"),
        (
            "loss.edge=uniform(-1, 1)",
            r"loss\.edge = -1, from uniform\(-1, 1\), does not fit streets: .* must be 0 or more",
        ),
        ("training.epochs=uniform(1, 5)", r"training\.epochs = 3\.\d+, .* must be a whole number"),
        ("optimizer.momentum=uniform(0.5, 1)", r"optimizer\.momentum = 1, .* must be less than 1"),
        ("training.batch_size=randint(1, 9)", r"training\.batch_size = 1, .* must be 2 or more"),
        ("model.backbone=choice(resnet18, resnet999)", r"model\.backbone = resnet999, .* must be one of resnet10"),
        ("loss.edge=uniform(0 1)", r"loss\.edge: expected ','"),
    ],
)
def test_values_that_the_config_rejects_are_rejected_beforehand_with_key_value_and_reason(
    text: str, message: str
) -> None:
    with pytest.raises(SearchSpaceError, match=message):
        check(with_sets(None, [text]), STREETS)


def test_settings_of_several_numbers_are_searched_as_text() -> None:
    sizes = {"augmentation.crop": [(96, 128), (64, 96)], "augmentation.scale": [(0.5, 1), (1, 2)]}
    space = with_sets(None, [f'{key}=choice("{a} {b}", "{c},{d}")' for key, ((a, b), (c, d)) in sizes.items()])
    check(space, STREETS)
    trials = [with_overrides(STREETS, space.overrides(trial)).augmentation for trial in space.grid()]
    assert [(trial.crop, trial.scale) for trial in trials] == list(product(*sizes.values()))
    with pytest.raises(SearchSpaceError, match=r'scale = "2 1", .* the smallest scale, above 0, and then the largest'):
        check(with_sets(None, ['augmentation.scale=choice("1 2", "2 1")']), STREETS)


def test_class_weights_are_searched_by_name_and_by_hand() -> None:
    by_hand = ",".join(["1"] * 8 + ["2.5"])
    space = with_sets(None, [f'loss.class_weights=choice(none, image, inverse_log, "{by_hand}")'])
    check(space, STREETS)
    weights = [with_overrides(STREETS, space.overrides(trial)).loss.class_weights for trial in space.grid()]
    assert weights == [None, "image", "inverse_log", (1,) * 8 + (2.5,)]
    with pytest.raises(SearchSpaceError, match=r'class_weights = "1,2", .* 2 numbers: must be 9, one for each'):
        check(with_sets(None, ['loss.class_weights=choice(none, "1,2")']), STREETS)


def test_incompatible_values_are_found_in_a_grid() -> None:
    off = [f"loss.{term}=choice(0, 1)" for term in ("seg", "edge", "attention")]
    with pytest.raises(SearchSpaceError, match=r"loss\.seg = 0, loss\.edge = 0, loss\.attention = 0 .* all 0"):
        check(with_sets(None, off), STREETS)
    check(with_sets(None, [*off, "loss.dual=choice(1)"]), STREETS)


def test_a_variant_and_a_domain_do_not_set_the_same_key() -> None:
    with pytest.raises(SearchSpaceError, match=r"loss\.edge is searched and also set by variant 'a'"):
        check(with_sets(BOTH, ["loss.edge=choice(3)"]), STREETS)


def test_variants_that_are_the_same_on_a_recipe_are_rejected() -> None:
    space = BOTH.model_copy(update={"variants": {"plain": {}, "as it is": {"loss.edge": STREETS.loss.edge}}})
    with pytest.raises(SearchSpaceError, match="'plain' and 'as it is' are the same on streets"):
        check(space, STREETS)


def test_an_empty_search_space_is_rejected() -> None:
    with pytest.raises(SearchSpaceError, match="nothing to search"):
        check(with_sets(None, []), STREETS)


def test_execution_keys_and_store_keys_are_rejected() -> None:
    fields = flatten(RECIPES["streets"].model_dump())
    data = {key for key in fields if key.startswith("data.")} - {"data.boundary_radius", "data.class_uniform"}
    for key in sorted(EXECUTION | data | {"name", "model.num_classes"}):
        with pytest.raises(SearchSpaceError, match=f"^{key} cannot be searched: "):
            check(with_sets(None, [f"{key}=choice(1)"]), STREETS)
