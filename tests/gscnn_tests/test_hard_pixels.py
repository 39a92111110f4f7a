"""The chosen pixels against a sort of all losses."""

import math

import pytest
import torch
from torch import Tensor

from gscnn.losses.hard_pixels import hard_pixels

SHAPE = (3, 8, 9)


def random_losses(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Losses from 0 to about 10, with ties, and a quarter that is not valid."""
    generator = torch.Generator().manual_seed(seed)
    losses = torch.rand(SHAPE, generator=generator) ** 4 * 10
    losses[torch.rand(SHAPE, generator=generator) < 1 / 3] = 0.125
    return losses, torch.rand(SHAPE, generator=generator) > 1 / 4


def sorted_choice(losses: Tensor, valid: Tensor, threshold: float, share: float) -> Tensor:
    kept = losses[valid]
    least = math.ceil(share * len(kept))
    hard = losses > -math.log(threshold)
    if (hard & valid).sum() < least:
        hard = losses >= sorted(kept.tolist(), reverse=True)[least - 1]
    return hard & valid


@pytest.mark.parametrize("share", [0.0, 1e-9, 0.01, 0.0625, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("threshold", [1e-4, 0.1, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_choice_is_that_of_a_sort(seed: int, threshold: float, share: float) -> None:
    losses, valid = random_losses(seed)
    chosen = hard_pixels(losses, valid, threshold, share)
    assert torch.equal(chosen, sorted_choice(losses, valid, threshold, share))


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 0.1])
def test_losses_of_any_magnitude_are_told_apart_to_the_last_bit(scale: float) -> None:
    losses = scale * torch.randperm(1000, generator=torch.Generator().manual_seed(0)).float().view(1, 10, 100)
    chosen = hard_pixels(losses, torch.ones_like(losses, dtype=torch.bool), 1e-44, 0.25)
    assert torch.equal(chosen, losses >= losses.flatten().sort(descending=True).values[249])


def test_a_loss_that_is_not_finite_is_hard() -> None:
    losses, valid = torch.full((1, 1, 8), 0.01), torch.ones(1, 1, 8, dtype=torch.bool)
    losses[..., 2], losses[..., 5], losses[..., 7] = math.nan, math.inf, -0.0
    for share in (0.0, 0.25):
        assert hard_pixels(losses, valid, 0.7, share)[0, 0].nonzero().flatten().tolist() == [2, 5]
    assert hard_pixels(losses, valid, 0.7, 1.0).all()


def test_without_a_valid_pixel_none_is_hard() -> None:
    losses, valid = random_losses()
    assert not hard_pixels(losses, torch.zeros_like(valid), 0.7, 0.5).any()
