"""The class weights of a dataset against their papers' formulas, written once more in exact or plain arithmetic."""

import math
from statistics import mean, median

import numpy as np
import pytest

from gscnn.class_weights import class_weights
from gscnn.config import LossConfig

PIXELS = (600_000, 250_000, 100_000, 49_000, 1_000)
IMAGES = 400


def of(weighting: str | tuple[float, ...] | None, pixels: tuple[int, ...] = PIXELS, beta: float = 0.99) -> np.ndarray:
    weights = class_weights(
        LossConfig(class_weights=weighting, effective_number_beta=beta), pixels=pixels, images=IMAGES
    )
    assert weights is not None
    return weights


def test_inverse_log_is_enets_formula() -> None:
    np.testing.assert_allclose(of("inverse_log"), [1 / math.log(1.02 + n / 1_000_000) for n in PIXELS])
    assert of("inverse_log", (0, 1)).max() < 1 / math.log(1.02)


def test_median_frequency_is_one_at_the_median_class() -> None:
    weights = of("median_frequency")
    assert weights[2] == 1
    np.testing.assert_allclose(weights, [median(PIXELS) / n for n in PIXELS])


@pytest.mark.parametrize("beta", [0.9, 0.99, 0.9999])
def test_effective_number_sums_the_powers_of_beta_by_images_worth(beta: float) -> None:
    """(1 - beta^n) / (1 - beta) is 1 + beta + ... + beta^(n - 1), of n = 240, 100, 40, 20 and 4 images' worth."""
    pixels = (60, 25, 10, 4, 1)
    raw = [1 / sum(beta**k for k in range(round(n * IMAGES / 100))) for n in pixels]
    np.testing.assert_allclose(of("effective_number", pixels, beta), np.array(raw) / mean(raw))


def test_beta_leads_from_equal_weights_to_those_of_inverse_frequency() -> None:
    np.testing.assert_array_equal(of("effective_number", beta=0), 1)
    inverse = 1 / np.array(PIXELS)
    np.testing.assert_allclose(of("effective_number", beta=1 - 1e-9), inverse / inverse.mean(), rtol=1e-5)
    default = of("effective_number")
    assert 1 < default[-1] / default[0] < inverse[-1] / inverse[0]


@pytest.mark.parametrize("weighting", ["inverse_log", "median_frequency", "effective_number"])
def test_a_class_without_pixels_gets_the_largest_weight_and_changes_no_other(weighting: str) -> None:
    weights, others = of(weighting, (0, *PIXELS, 0)), of(weighting)
    np.testing.assert_array_equal(weights[1:-1], others)
    assert weights[0] == weights[-1] == others.max()
    np.testing.assert_array_equal(of(weighting, (0, 0, 0)), 1)


def test_weights_by_hand_are_kept_and_image_weights_need_no_dataset() -> None:
    np.testing.assert_array_equal(of((3.0, 0.5)), [3, 0.5])
    for weighting in (None, "image"):
        assert class_weights(LossConfig(class_weights=weighting), PIXELS, IMAGES) is None
