"""Lovász-softmax and Dice against loops over pixels and sets, in float64."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from gscnn.constants import IGNORE_INDEX
from gscnn.losses.overlap import dice_term, lovasz_term
from gscnn.losses.terms import Term

B, K, H, W = 3, 4, 5, 6

TERMS = {"lovasz": lovasz_term, "dice": dice_term}


def random_case(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Class 3 is in no image, class 2 only in the first; a fifth is void."""
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, 2, (B, H, W), generator=generator)
    label[0, :2] = 2
    label[torch.rand(B, H, W, generator=generator) < 1 / 5] = IGNORE_INDEX
    return 2 * torch.randn(B, K, H, W, generator=generator, dtype=torch.float64).to(dtype), label


def jaccard_loss(region: set[int], wrong: set[int]) -> float:
    """1 - IoU of a region and a prediction that is wrong exactly on `wrong`."""
    return 1 - len(region - wrong) / len(region | wrong)


def lovasz_loss(probability: list[float], region: set[int]) -> float:
    """The Lovász extension as its integral: of the loss of those whose error is t or more, over t from 0 to 1."""
    errors = [1 - p if pixel in region else p for pixel, p in enumerate(probability)]
    steps = [0.0, *sorted(set(errors))]
    return sum(
        (t - before) * jaccard_loss(region, {pixel for pixel, error in enumerate(errors) if error >= t})
        for before, t in pairwise(steps)
    )


def dice_loss(probability: list[float], region: set[int]) -> float:
    overlap = sum(p for pixel, p in enumerate(probability) if pixel in region)
    return 1 - 2 * overlap / (sum(p * p for p in probability) + len(region))


LOOPS = {"lovasz": lovasz_loss, "dice": dice_loss}


def loop(logits: Tensor, label: Tensor, loss: Callable[[list[float], set[int]], float]) -> float:
    """Mean over images with pixels, of the mean over their classes."""
    means = []
    for of_image, truth in zip(logits.double().numpy(), label.numpy(), strict=True):
        valid = [place for place in np.ndindex(*truth.shape) if truth[place] != IGNORE_INDEX]
        exponents = {place: np.exp(of_image[(slice(None), *place)]) for place in valid}
        probability = {place: values / values.sum() for place, values in exponents.items()}
        classes = {int(truth[place]) for place in valid}
        losses = [
            loss([probability[place][c] for place in valid], {n for n, place in enumerate(valid) if truth[place] == c})
            for c in classes
        ]
        if losses:
            means.append(sum(losses) / len(losses))
    return float(sum(means) / max(len(means), 1))


@pytest.mark.parametrize("name", TERMS)
def test_each_term_equals_a_loop_over_images_classes_and_pixels(name: str) -> None:
    logits, label = random_case()
    expected = loop(logits, label, LOOPS[name])
    assert 0.1 < expected < 1
    assert TERMS[name](logits, label).alone().item() == pytest.approx(expected, rel=1e-12)
    label[1] = IGNORE_INDEX
    assert TERMS[name](logits, label).alone().item() == pytest.approx(loop(logits, label, LOOPS[name]), rel=1e-12)


@pytest.mark.parametrize("name", TERMS)
def test_each_gradient_equals_finite_differences(name: str) -> None:
    logits, label = random_case()
    assert torch.autograd.gradcheck(lambda leaf: TERMS[name](leaf, label).alone(), (logits.requires_grad_(),))


@pytest.mark.parametrize("name", TERMS)
def test_a_right_prediction_costs_nothing_and_a_wrong_one_everything(name: str) -> None:
    _, label = random_case()
    logits = 100.0 * (label.unsqueeze(1) == torch.arange(K).view(1, -1, 1, 1))
    assert TERMS[name](logits, label).alone() < 1e-30
    assert TERMS[name](-logits, label).alone() > 0.6
    assert TERMS[name](logits.roll(1, dims=1), label).alone() == pytest.approx(1)


def test_a_large_frame_in_float32_has_the_weights_of_float64() -> None:
    """A difference of two values of 1 - IoU would be wrong by 1% here."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(1, 3, 360, 480, generator=generator)
    label = torch.randint(0, 3, (1, 360, 480), generator=generator)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        leaf = logits.to(dtype).requires_grad_()
        term: Term = lovasz_term(leaf, label)
        gradients += torch.autograd.grad(term.alone(), leaf)
    # Errors that are equal in float32 may change places in the order.
    off = (gradients[0] - gradients[1]).abs() / gradients[1].abs().mean()
    assert off.quantile(0.99) < 1e-4
