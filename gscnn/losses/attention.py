"""Cross-entropy on the pixels that the shape stream predicts as boundary."""

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from gscnn.constants import IGNORE_INDEX
from gscnn.losses.cross_entropy import mean_term, pixel_cross_entropy


def predicted_boundary(
    edge_logits: Float[Tensor, "B 1 H W"],
    target: Integer[Tensor, "B H W"],
    threshold: float,
    ignore_index: int = IGNORE_INDEX,
) -> Bool[Tensor, "B H W"]:
    """The non-void pixels whose edge probability exceeds `threshold`."""
    logits = edge_logits.detach().squeeze(1)
    probability = torch.sigmoid(logits.to(torch.promote_types(logits.dtype, torch.float32)))
    return (probability > threshold) & (target != ignore_index)


def attention_loss(
    pixel_loss: Float[Tensor, "B H W"],
    edge_logits: Float[Tensor, "B 1 H W"],
    target: Integer[Tensor, "B H W"],
    threshold: float = 0.8,
    ignore_index: int = IGNORE_INDEX,
) -> Float[Tensor, ""]:
    """Mean of `pixel_loss` over the pixels that the shape stream predicts as boundary (arXiv:1907.05740, eq. 6).

    Those are the non-void pixels whose edge probability exceeds `threshold`; 0 if there are none. No gradient flows to
    the edge logits.
    """
    return mean_term(pixel_loss, predicted_boundary(edge_logits, target, threshold, ignore_index)).alone()


class DualTaskLoss(nn.Module):
    """Cross-entropy where the predicted edge probability exceeds `threshold` (arXiv:1907.05740, eq. 6).

    The name is from this project's first specification. The authors call this term "attention", as `loss.attention`
    does, and use "dual task" for the regularizer: here DualTaskRegularizer and `loss.dual`.
    """

    def __init__(self, threshold: float = 0.8, ignore_index: int = IGNORE_INDEX) -> None:
        super().__init__()
        self.threshold = threshold
        self.ignore_index = ignore_index

    def forward(
        self,
        seg_logits: Float[Tensor, "B K H W"],
        edge_logits: Float[Tensor, "B 1 H W"],
        target: Integer[Tensor, "B H W"],
    ) -> Float[Tensor, ""]:
        pixel_loss = pixel_cross_entropy(seg_logits, target, self.ignore_index)
        return attention_loss(pixel_loss, edge_logits, target, self.threshold, self.ignore_index)
