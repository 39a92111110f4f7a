import math

import numpy as np
import pytest

from gscnn_platform.comparison import holm, paired


def test_the_paired_test_is_students_on_the_differences_seed_by_seed() -> None:
    first = {0: 0.510, 1: 0.523, 2: 0.498, 3: 0.531, 4: 0.517, 9: 0.9}
    other = {0: 0.522, 1: 0.531, 2: 0.514, 3: 0.540, 4: 0.526, 7: 0.1}
    found = paired(first, other)
    assert found is not None
    shared = np.array([other[seed] - first[seed] for seed in range(5)], np.float64)
    mean = shared.sum() / 5
    deviation = math.sqrt(((shared - mean) ** 2).sum() / 4)
    t = mean / (deviation / math.sqrt(5))
    # Student's distribution with 4 degrees of freedom in closed form, and its 97.5% quantile from the tables.
    x = t / math.sqrt(4 + t * t)
    p = 1 - x * (1.5 - 0.5 * x * x)
    half = 2.7764451052 * deviation / math.sqrt(5)
    assert (found.spread.n, found.spread.mean, found.spread.deviation) == (
        5,
        pytest.approx(mean),
        pytest.approx(deviation),
    )
    assert found.p == pytest.approx(p, rel=1e-9)
    assert (found.low, found.high) == (pytest.approx(mean - half, rel=1e-8), pytest.approx(mean + half, rel=1e-8))
    assert found.clear


def test_no_test_without_two_shared_seeds_and_no_p_value_from_rounding() -> None:
    assert paired({0: 0.5, 1: 0.5}, {1: 0.6, 2: 0.6}) is None
    same = paired({0: 0.5, 1: 0.6, 2: 0.7}, {0: 0.5, 1: 0.6, 2: 0.7})
    shifted = paired({0: 0.1, 1: 0.2, 2: 0.3}, {0: 0.2, 1: 0.3, 2: 0.4})
    assert same is not None
    assert shifted is not None
    assert (same.p, same.clear) == (1.0, False)
    assert (shifted.p, shifted.clear) == (0.0, True)


@pytest.mark.parametrize(
    ("p_values", "corrected"),
    [
        ([0.04], [0.04]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.005, 0.011, 0.02, 0.04], [0.02, 0.033, 0.04, 0.04]),
        ([0.6, 0.5], [1.0, 1.0]),
        ([], []),
    ],
)
def test_holms_correction_by_hand(p_values: list[float], corrected: list[float]) -> None:
    assert holm(p_values) == pytest.approx(corrected)
