"""Lovász-softmax and Dice: one minus how well each class's region overlaps with the ground truth.

Both are means over the images that are not entirely void, of means over the classes that are present in the image. A
mean over images is the same on any number of workers; a region over a whole step would not be, for Lovász.
"""

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.nn.functional import softmax

from gscnn.constants import IGNORE_INDEX
from gscnn.losses.cross_entropy import mean_counts
from gscnn.losses.terms import Term, divided, without_void


def lovasz_term(
    seg_logits: Float[Tensor, "B K H W"], target: Integer[Tensor, "B H W"], ignore_index: int = IGNORE_INDEX
) -> Term:
    """The Lovász-softmax loss: the Lovász extension of 1 - IoU of each class (Berman et al., arXiv:1705.08790, eq. 9
    to 12, with images as the unit)."""
    probability, truth, valid = _regions(seg_logits, target, ignore_index)
    errors = torch.where(truth, 1 - probability, probability)
    with torch.no_grad():
        # An image at a time, as sorting takes several times the memory of the errors.
        weights = torch.stack([_lovasz_gradient(*image) for image in zip(errors, truth, valid, strict=True)])
    return _mean_over_present((errors * weights).sum(2), truth, target != ignore_index)


def dice_term(
    seg_logits: Float[Tensor, "B K H W"], target: Integer[Tensor, "B H W"], ignore_index: int = IGNORE_INDEX
) -> Term:
    """The soft Dice loss: 1 - 2 sum(p g) / (sum(p^2) + sum(g^2)) of each class, with p its probability and g 1 on it,
    else 0 (V-Net, arXiv:1606.04797)."""
    probability, truth, valid = _regions(seg_logits, target, ignore_index)
    probability = probability.where(valid, 0)
    # An absent class, which is left out, could have 0 / 0.
    sizes = probability.square().sum(2) + truth.sum(2).clamp(min=1)
    losses = 1 - 2 * probability.where(truth, 0).sum(2) / sizes
    return _mean_over_present(losses, truth, target != ignore_index)


def _regions(seg_logits: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor, Tensor]:
    """Probability and truth of each class, [B, K, N], and the non-void pixels, [B, 1, N]."""
    valid = (target != ignore_index).unsqueeze(1)
    classes = torch.arange(seg_logits.shape[1], device=target.device).view(1, -1, 1, 1)
    truth = (target.long().unsqueeze(1) == classes) & valid
    probability = softmax(without_void(seg_logits, valid), dim=1)
    return probability.flatten(2), truth.flatten(2), valid.flatten(2)


def _lovasz_gradient(
    errors: Float[Tensor, "K N"], truth: Bool[Tensor, "K N"], valid: Bool[Tensor, "1 N"]
) -> Float[Tensor, "K N"]:
    """Weight of each error in the Lovász extension of 1 - IoU; 0 on void.

    In the order of falling errors, it is how much 1 - IoU grows if the pixel becomes wrong as well: by 1 / union for a
    pixel of the class, by intersection / (union * (union - 1)) for another, with the values that follow it. The
    difference of two values of 1 - IoU, each rounded to 6e-8, would be 1% off where a pixel has 6e-6, as in 360x480.
    """
    order = errors.where(valid, -1).argsort(dim=1, descending=True)
    true = truth.gather(1, order)
    pixels = true.sum(1, keepdim=True)
    intersection = (pixels - true.cumsum(1)).to(errors.dtype)
    union = (pixels + (~true).cumsum(1)).to(errors.dtype)
    growth = torch.where(true, 1 / union, intersection / (union * (union - 1)).clamp(min=1))
    return torch.zeros_like(errors).scatter_(1, order, growth).where(valid, 0)


def _mean_over_present(
    losses: Float[Tensor, "B K"], truth: Bool[Tensor, "B K N"], valid: Bool[Tensor, "B H W"]
) -> Term:
    present = truth.any(2)
    total = (losses.where(present, 0).sum(1) / present.sum(1).clamp(min=1)).sum()
    return Term(mean_counts(valid, by_image=True), lambda counts: divided(total, *counts))
