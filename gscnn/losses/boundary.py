"""Balanced binary cross-entropy of the shape stream's edge logits."""

from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from gscnn.constants import IGNORE_INDEX
from gscnn.losses.terms import Counts, Term, divided, without_void

BoundaryLabel = Integer[Tensor, "B *one H W"] | Bool[Tensor, "B *one H W"] | Float[Tensor, "B *one H W"]
"""Above 0 on a boundary."""


def boundary_counts(
    target: Integer[Tensor, "B H W"], boundary: BoundaryLabel, ignore_index: int = IGNORE_INDEX
) -> Counts:
    """Counts that balance and normalize `boundary_term`: non-void pixels, and how many of them are on a boundary."""
    valid = target != ignore_index
    return valid.sum(), (valid & (boundary.reshape(target.shape) > 0)).sum()


def boundary_term(
    edge_logits: Float[Tensor, "B 1 H W"],
    target: Integer[Tensor, "B H W"],
    boundary: BoundaryLabel,
    ignore_index: int = IGNORE_INDEX,
) -> Term:
    """Binary cross-entropy, balanced over all counted pixels (arXiv:1907.05740, eq. 4).

    Boundary pixels weigh #background / #valid, background pixels #boundary / #valid; the sum is divided by #valid,
    the number of non-void pixels, at least 1.
    """
    valid = target != ignore_index
    logits = without_void(edge_logits, valid).squeeze(1)
    truth = boundary.reshape(logits.shape) > 0
    bce = binary_cross_entropy_with_logits(logits, truth.to(logits.dtype), reduction="none")
    on_boundary, on_background = bce.where(valid & truth, 0).sum(), bce.where(valid & ~truth, 0).sum()

    def value(counts: Counts) -> Float[Tensor, ""]:
        num_valid, positives = counts
        share = divided(positives.to(bce.dtype), num_valid)
        opposite = divided((num_valid - positives).to(bce.dtype), num_valid)
        return divided(opposite * on_boundary + share * on_background, num_valid)

    return Term(boundary_counts(target, boundary, ignore_index), value)


def boundary_bce_loss(
    edge_logits: Float[Tensor, "B 1 H W"],
    target: Integer[Tensor, "B H W"],
    boundary: BoundaryLabel,
    ignore_index: int = IGNORE_INDEX,
) -> Float[Tensor, ""]:
    """`boundary_term` of this batch alone."""
    return boundary_term(edge_logits, target, boundary, ignore_index).alone()


class BoundaryBCELoss(nn.Module):
    """boundary_bce_loss as a module."""

    def __init__(self, ignore_index: int = IGNORE_INDEX) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(
        self, edge_logits: Float[Tensor, "B 1 H W"], target: Integer[Tensor, "B H W"], boundary: BoundaryLabel
    ) -> Float[Tensor, ""]:
        return boundary_bce_loss(edge_logits, target, boundary, self.ignore_index)
