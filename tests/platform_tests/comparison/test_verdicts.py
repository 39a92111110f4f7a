from dataclasses import replace

import pytest

from gscnn_platform.comparison import Contender, paired, verdicts
from tests.tracked import group, tracked

MIOU = "val/miou"


def test_a_difference_beyond_noise_is_reported_with_its_size_interval_and_p_value() -> None:
    a = group("A", [0.510, 0.523, 0.498, 0.531, 0.517])
    b = group("B", [0.522, 0.531, 0.514, 0.540, 0.526])
    [sentence] = verdicts([a, b], MIOU)
    assert sentence == (
        "B is above A by 1.1 ± 0.3 points of mIoU over 5 seeds (95% interval 0.7 to 1.5; paired t-test, p = 0.0018): "
        "more than noise"
    )


def test_a_difference_within_noise_is_reported_as_such_and_several_are_corrected() -> None:
    a, b = group("A", [0.51, 0.52, 0.50]), group("B", [0.53, 0.51, 0.50])
    c = group("C", [0.41, 0.421, 0.40])
    of_b, of_c = verdicts([a, b, c], MIOU)
    assert of_b.startswith("B is above A by 0.3")
    assert of_b.endswith("Holm's correction for 2 comparisons): the difference cannot be distinguished from noise")
    assert of_c.startswith("C is below A by 10.0")
    assert of_c.endswith("more than noise")
    alone = paired(a.by_seed(MIOU), b.by_seed(MIOU))
    assert alone is not None
    assert f"p = {alone.p:.2f} after" in of_b, "the larger of two p values is multiplied by 1"


def test_a_difference_significant_alone_may_not_be_after_correction() -> None:
    base = [0.51, 0.52, 0.50]
    a = group("A", base)
    b = group("B", [value + gain for value, gain in zip(base, (0.010, 0.0136, 0.0064), strict=True)])
    c = replace(b, name="C")
    assert verdicts([a, b], MIOU)[0].endswith("p = 0.041): more than noise")
    assert [sentence.endswith("distinguished from noise") for sentence in verdicts([a, b, c], MIOU)] == [True, True]


@pytest.mark.parametrize(
    ("first", "other", "said"),
    [
        (group("A", [0.5]), group("B", [0.6]), "one seed each: the difference cannot be distinguished from noise"),
        (group("A", [0.5, 0.51]), group("B", [0.6, 0.62]), "2 seeds are too few for a verdict, train with 3 or more"),
        (
            group("A", [0.5, 0.51]),
            group("B", [0.6, 0.62], 5),
            "they share none; a paired test needs 2): the difference",
        ),
        (group("A", [0.5, 0.6, 0.7]), group("B", [0.5, 0.6, 0.7]), "B and A have the same mIoU in 3 seeds"),
        (group("A", [0.5]), Contender("B", (tracked("b", {0: 0.1}),)), "B has no mIoU"),
    ],
)
def test_too_few_seeds_give_no_verdict(first: Contender, other: Contender, said: str) -> None:
    [sentence] = verdicts([first, other], MIOU)
    assert said in sentence
