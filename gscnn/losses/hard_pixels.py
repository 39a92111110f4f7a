"""Online hard example mining: the pixels of a step that the network finds hard, on any number of workers."""

import math
from collections.abc import Callable
from typing import Final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from gscnn.losses.terms import ALONE

DIGITS: Final = ((20, 11), (10, 10), (0, 10))
"""Shift and width, in bits, of the digits by which the 31 bits of a float32 of 0 or more are searched."""


def hard_pixels(
    pixel_loss: Float[Tensor, "B H W"],
    valid: Bool[Tensor, "B H W"],
    threshold: float,
    least_share: float,
    add: Callable[[Int64[Tensor, " N"]], Int64[Tensor, " N"]] = ALONE.sum,
) -> Bool[Tensor, "B H W"]:
    """The valid pixels whose true class has a probability below `threshold` (after Shrivastava et al.,
    arXiv:1604.03540).

    If these are less than `least_share` of all valid pixels, rounded up, the pixels with the lowest probability are
    hard instead, as many as that share has and all that tie with the last of them. Probabilities are compared in
    float32, as losses.

    Args:
        pixel_loss: cross-entropy, unweighted and without label smoothing; NaN is hard, so that it reaches the loss.
        valid: the pixels to choose from.
        threshold: in (0, 1].
        least_share: in [0, 1].
        add: sums counts over all workers that share a step; called three times, or not at all if the share is 0.
    """
    with torch.no_grad():
        losses = pixel_loss.detach().float().abs().nan_to_num(nan=math.inf, posinf=math.inf)
        hard = losses > -math.log(threshold)
        if least_share:
            # The bits of floats of 0 or more, read as integers, have the same order.
            bits = losses.view(torch.int32)
            hard |= bits >= _least_of_share(bits, valid, least_share, add)
        return hard & valid


def _least_of_share(bits: Tensor, valid: Tensor, share: float, add: Callable[[Tensor], Tensor]) -> Tensor:
    """The smallest of the `share` largest valid values over all workers: a radix search, with a histogram a digit."""
    among = valid
    left: Tensor | None = None
    least = torch.zeros((), dtype=torch.int32, device=bits.device)
    for shift, width in DIGITS:
        digit, size = bits >> shift & (1 << width) - 1, 1 << width
        places = digit.where(among, size).flatten().long()
        counts = torch.zeros(size + 1, dtype=torch.long, device=bits.device)
        counts = add(counts.scatter_add_(0, places, torch.ones_like(places)))[:size]
        if left is None:
            left = (counts.sum().double() * share).ceil().long()
        at_least = counts.flip(0).cumsum(0).flip(0)
        chosen = (at_least >= left).sum() - 1
        left = left - counts.where(torch.arange(size, device=bits.device) > chosen, 0).sum()
        among = among & (digit == chosen)
        least = least | (chosen << shift).int()
    return least
