from typing import Any

import pytest

from gscnn_platform.sweeps.domains import Domain, SearchSpaceError, parse_domain


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
def test_a_domain_is_parsed_and_its_own_text_parses_to_the_same(text: str, kind: str, args: tuple[Any, ...]) -> None:
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
def test_an_error_is_shown_at_its_position_with_all_kinds(text: str, place: int, reason: str) -> None:
    with pytest.raises(SearchSpaceError, match=reason) as caught:
        parse_domain(text)
    first, shown, caret = str(caught.value).split("\n")
    assert shown[4:] == text
    assert caret.index("^") - 4 == place
    assert "loguniform(1, 50)" in first


def test_a_domain_created_in_code_is_checked_too() -> None:
    with pytest.raises(SearchSpaceError, match=r"uniform\(2, 1\): the upper end 1 is not above the lower end 2"):
        Domain("uniform", (2, 1))
    with pytest.raises(SearchSpaceError, match="nan is not finite"):
        Domain("choice", (1, float("nan")))


def test_finite_domains_list_their_values_and_continuous_ones_do_not() -> None:
    assert parse_domain("quniform(0, 0.5, 0.1)").values() == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert list(parse_domain("randint(2, 9)").values() or ()) == [2, 3, 4, 5, 6, 7, 8]
    assert parse_domain("choice(true, none)").values() == (True, None)
    for text in ("uniform(0, 1)", "loguniform(1, 2)", "randint(0, 1001)", "quniform(0, 1e9, 0.1)"):
        assert parse_domain(text).values() is None
    assert len(parse_domain("randint(0, 1000)").values() or ()) == 1000


def test_extremes_contain_both_ends_and_for_floats_a_fraction_between() -> None:
    low, between, high = parse_domain("uniform(1, 5)").extremes()
    assert (low, high) == (1, 5)
    assert isinstance(between, float)
    assert 1 < between < 5
    assert not between.is_integer()
    assert parse_domain("randint(0, 5000)").extremes() == (0, 4999)
    assert parse_domain("quniform(0, 5000, 2)").extremes() == (0, 2, 5000)
