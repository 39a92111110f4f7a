from itertools import product
from typing import Any

import pytest

from gscnn_platform.config import EXECUTION, flatten
from gscnn_platform.domains import Domain, SearchSpace, SearchSpaceError, check, parse_domain, with_sets
from gscnn_platform.recipes import RECIPES, STREETS

BOTH = SearchSpace(
    description="",
    domains={"seed": "choice(0, 1)", "loss.dual": "choice(0, 0.5, 1)"},
    variants={"a": {"loss.edge": 1}, "b": {"loss.edge": 2, "optimizer.lr": 0.5}},
    search="grid",
)


@pytest.mark.parametrize(
    ("text", "kind", "args"),
    [
        ("uniform(0, 1)", "uniform", (0, 1)),
        (" uniform ( -1.5,+.5 ) ", "uniform", (-1.5, 0.5)),
        ("loguniform(1e-5, 2E1)", "loguniform", (1e-5, 20.0)),
        ("quniform(0, 1, 0.1)", "quniform", (0, 1, 0.1)),
        ("randint(2, 9)", "randint", (2, 9)),
        ("choice(1, 5, 20)", "choice", (1, 5, 20)),
        ('choice(true, None, imagenet, "a b")', "choice", (True, None, "imagenet", "a b")),
        (r'choice("true", "5", "say \"x\", (y)", resnet-18.b)', "choice", ("true", "5", 'say "x", (y)', "resnet-18.b")),
    ],
)
def test_a_domain_reads_as_it_is_written_and_its_own_text_reads_as_the_same(
    text: str, kind: str, args: tuple[Any, ...]
) -> None:
    domain = parse_domain(text)
    assert (domain.kind, domain.args) == (kind, args)
    assert [type(value) for value in domain.args] == [type(value) for value in args]
    again = parse_domain(str(domain))
    assert again == domain
    assert str(again) == str(domain)


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("", 0, "expected a kind"),
        ("unifrm(0, 1)", 0, "'unifrm' is not a kind"),
        ("uniform", 7, r"expected '\('"),
        ("uniform(0", 9, r"expected ',' or '\)'"),
        ("uniform(0, 1) x", 14, "nothing more"),
        ("uniform(0, 1, 2)", 14, "takes 2 numbers, not 3"),
        ("uniform(0)", 9, "takes 2 numbers, not 1"),
        ("uniform(1, 1)", 11, "not above the lower end"),
        ("uniform(nan, 1)", 8, "takes numbers, not nan"),
        ("uniform(0, 1e999)", 11, "too large"),
        ("uniform(0, true)", 11, "takes numbers, not true"),
        ("uniform(0, 1abc)", 11, "'1' is not expected"),
        ("loguniform(0, 1)", 11, "no logarithm"),
        ("quniform(0, 1, 0)", 15, "step 0 is not above 0"),
        ("quniform(0, 1, 0.3)", 12, "not a multiple of the step"),
        ("randint(2, 9.5)", 11, "whole numbers, not 9.5"),
        ("choice()", 7, "needs at least one value"),
        ("choice(1,)", 9, "expected a value"),
        ("choice(1 2)", 9, r"expected ',' or '\)'"),
        ("choice(a, b, a)", 13, "a is listed twice"),
        ("choice('a b')", 7, "is not expected"),
        (r'choice("\q")', 7, "not JSON's text"),
        ("__import__('os').system('true')", 11, "is not expected"),
        ("(lambda: 1)()", 7, "is not expected"),
    ],
)
def test_a_fault_is_shown_at_its_place_with_the_kinds_that_there_are(text: str, place: int, reason: str) -> None:
    with pytest.raises(SearchSpaceError, match=reason) as caught:
        parse_domain(text)
    first, shown, caret = str(caught.value).split("\n")
    assert shown[4:] == text
    assert caret.index("^") - 4 == place
    assert "loguniform(1, 50)" in first


def test_a_domain_made_in_code_is_checked_as_well() -> None:
    with pytest.raises(SearchSpaceError, match=r"uniform\(2, 1\): the upper end 1 is not above the lower end 2"):
        Domain("uniform", (2, 1))
    with pytest.raises(SearchSpaceError, match="nan is not finite"):
        Domain("choice", (1, float("nan")))


def test_finite_domains_list_their_values_and_continua_do_not() -> None:
    assert parse_domain("quniform(0, 0.5, 0.1)").values() == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert list(parse_domain("randint(2, 9)").values() or ()) == [2, 3, 4, 5, 6, 7, 8]
    assert parse_domain("choice(true, none)").values() == (True, None)
    for text in ("uniform(0, 1)", "loguniform(1, 2)", "randint(0, 1001)", "quniform(0, 1e9, 0.1)"):
        assert parse_domain(text).values() is None
    assert len(parse_domain("randint(0, 1000)").values() or ()) == 1000


def test_extremes_hold_both_ends_and_of_floats_a_fraction_between() -> None:
    low, between, high = parse_domain("uniform(1, 5)").extremes()
    assert (low, high) == (1, 5)
    assert isinstance(between, float)
    assert 1 < between < 5
    assert not between.is_integer()
    assert parse_domain("randint(0, 5000)").extremes() == (0, 4999)
    assert parse_domain("quniform(0, 5000, 2)").extremes() == (0, 2, 5000)


def test_a_grid_is_the_product_of_all_values_with_the_variants_changing_fastest() -> None:
    expected = [
        {"seed": seed, "loss.dual": dual, "variant": variant}
        for seed, dual, variant in product((0, 1), (0, 0.5, 1), ("a", "b"))
    ]
    assert BOTH.grid() == expected


def test_a_grid_over_a_continuum_or_of_too_many_trials_names_the_key() -> None:
    with pytest.raises(SearchSpaceError, match=r"loss\.edge: a grid cannot list loguniform\(1, 50\)"):
        with_sets(BOTH, ["loss.edge=loguniform(1, 50)"]).grid()
    with pytest.raises(SearchSpaceError, match=r"a grid of 2400 trials \(seed 400, loss\.dual 3, variant 2\)"):
        with_sets(BOTH, ["seed=randint(0, 400)"]).grid()


def test_a_sampled_trial_becomes_overrides_with_its_variant_spelled_out() -> None:
    sampled = {"variant": "b", "seed": 1, "loss.dual": 0.5}
    assert BOTH.overrides(sampled) == {"loss.edge": 2, "optimizer.lr": 0.5, "seed": 1, "loss.dual": 0.5}
    assert sampled["variant"] == "b"


def test_the_command_line_adds_and_replaces_keys_and_the_last_one_counts() -> None:
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
def test_choices_are_run_through_and_ranges_are_sampled(sets: list[str], search: str) -> None:
    assert with_sets(None, sets).search == search
    assert with_sets(BOTH, sets).search == search
    assert with_sets(BOTH.model_copy(update={"search": "random"}), sets).search == "random"


def test_variants_can_be_narrowed_by_name() -> None:
    space = with_sets(BOTH, ["variant=choice(b)"])
    check(space, STREETS)
    assert {trial["variant"] for trial in space.grid()} == {"b"}
    with pytest.raises(SearchSpaceError, match="none named 'c'; there are: a, b"):
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
        ("optimizer.momentum=uniform(0, 1)", r"optimizer\.momentum = 1, .* must be less than 1"),
        ("training.batch_size=randint(1, 9)", r"training\.batch_size = 1, .* must be 2 or more"),
        ("model.backbone=choice(resnet18, resnet999)", r"model\.backbone = resnet999, .* must be one of resnet10"),
        ("loss.edge=uniform(0 1)", r"loss\.edge: expected ','"),
    ],
)
def test_what_the_config_refuses_is_refused_beforehand_with_key_value_and_reason(text: str, message: str) -> None:
    with pytest.raises(SearchSpaceError, match=message):
        check(with_sets(None, [text]), STREETS)


def test_values_that_do_not_fit_each_other_are_found_in_a_grid() -> None:
    off = [f"loss.{term}=choice(0, 1)" for term in ("seg", "edge", "attention")]
    with pytest.raises(SearchSpaceError, match=r"loss\.seg = 0, loss\.edge = 0, loss\.attention = 0 .* all 0"):
        check(with_sets(None, off), STREETS)
    check(with_sets(None, [*off, "loss.dual=choice(1)"]), STREETS)


def test_a_variant_and_a_domain_do_not_set_the_same_key() -> None:
    with pytest.raises(SearchSpaceError, match=r"loss\.edge is searched and also set by variant 'a'"):
        check(with_sets(BOTH, ["loss.edge=choice(3)"]), STREETS)


def test_variants_that_a_recipe_cannot_tell_apart_are_refused() -> None:
    space = BOTH.model_copy(update={"variants": {"plain": {}, "as it is": {"loss.edge": STREETS.loss.edge}}})
    with pytest.raises(SearchSpaceError, match="'plain' and 'as it is' are the same on streets"):
        check(space, STREETS)


def test_nothing_to_search_is_refused() -> None:
    with pytest.raises(SearchSpaceError, match="nothing to search"):
        check(with_sets(None, []), STREETS)


def test_keys_that_say_how_a_run_is_carried_out_are_refused_and_so_are_those_of_the_store() -> None:
    fields = flatten(RECIPES["streets"].model_dump())
    data = {key for key in fields if key.startswith("data.")} - {"data.boundary_radius"}
    for key in sorted(EXECUTION | data | {"name", "model.num_classes"}):
        with pytest.raises(SearchSpaceError, match=f"^{key} is not searched: "):
            check(with_sets(None, [f"{key}=choice(1)"]), STREETS)
