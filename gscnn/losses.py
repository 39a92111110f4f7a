"""The losses of Gated-SCNN: `L = seg * CE + edge * balanced BCE + attention * CE on predicted edges`.

All take logits, count their valid pixels themselves, and stay on the device: no value is read back to the host and
no loop runs over the batch. Void pixels (ignore_index) count neither by value nor by gradient.
"""

import torch
from jaxtyping import Bool, Float, Integer
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from gscnn.batch import IGNORE_INDEX, SegBatch
from gscnn.model import SegmentationOutput


class LossConfig(BaseModel):
    """Weight of each term and its thresholds. A weight of 0 switches the term off: it is then not computed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seg: float = Field(default=1.0, ge=0)
    """Weight of the cross-entropy (paper: 1)."""
    edge: float = Field(default=20.0, ge=0)
    """Weight of the boundary loss (paper: 20)."""
    attention: float = Field(default=1.0, ge=0)
    """Weight of the cross-entropy on predicted boundaries (paper: 1)."""
    threshold: float = Field(default=0.8, ge=0, le=1)
    """Edge probability above which a pixel counts as predicted boundary (paper: 0.8)."""

    @model_validator(mode="after")
    def _something_to_learn(self) -> "LossConfig":
        if not (self.seg or self.edge or self.attention):
            raise ValueError("seg, edge and attention are all 0: give at least one term a weight")
        return self


def masked_mean(values: Float[Tensor, "*S"], mask: Bool[Tensor, "*S"]) -> Float[Tensor, ""]:
    """Mean of `values` where `mask`; exactly 0, with zero gradient, where it is empty."""
    return values.where(mask, 0).sum() / mask.sum().clamp(min=1)


def pixel_cross_entropy(
    seg_logits: Float[Tensor, "B K H W"], target: Integer[Tensor, "B H W"], ignore_index: int = IGNORE_INDEX
) -> Float[Tensor, "B H W"]:
    """Cross-entropy of each pixel in float32, 0 on void."""
    return cross_entropy(seg_logits.float(), target.long(), ignore_index=ignore_index, reduction="none")


def boundary_bce_loss(
    edge_logits: Float[Tensor, "B 1 H W"],
    target: Integer[Tensor, "B H W"],
    boundary: Integer[Tensor, "B *one H W"] | Bool[Tensor, "B *one H W"] | Float[Tensor, "B *one H W"],
    ignore_index: int = IGNORE_INDEX,
) -> Float[Tensor, ""]:
    """Binary cross-entropy balanced over the batch (arXiv:1907.05740, eq. 4).

    Boundary pixels weigh #background / #valid, background pixels #boundary / #valid; the sum is divided by #valid,
    the number of non-void pixels, at least 1.
    """
    logits = edge_logits.squeeze(1).float()
    valid = target != ignore_index
    truth = boundary.reshape(logits.shape) > 0
    positive, negative = valid & truth, valid & ~truth
    bce = binary_cross_entropy_with_logits(logits, truth.float(), reduction="none")
    num_valid = valid.sum().clamp(min=1)
    positive_weight, negative_weight = negative.sum() / num_valid, positive.sum() / num_valid
    weighted = positive_weight * bce.where(positive, 0).sum() + negative_weight * bce.where(negative, 0).sum()
    return weighted / num_valid


def attention_loss(
    pixel_loss: Float[Tensor, "B H W"],
    edge_logits: Float[Tensor, "B 1 H W"],
    target: Integer[Tensor, "B H W"],
    threshold: float = 0.8,
    ignore_index: int = IGNORE_INDEX,
) -> Float[Tensor, ""]:
    """Mean of `pixel_loss` over the pixels that the shape stream calls a boundary (arXiv:1907.05740, eq. 6).

    Those are the non-void pixels whose edge probability exceeds `threshold`; 0 where there are none. The edge logits
    get no gradient from it.
    """
    on_edge = torch.sigmoid(edge_logits.squeeze(1).float()) > threshold
    return masked_mean(pixel_loss, on_edge & (target != ignore_index))


class BoundaryBCELoss(nn.Module):
    """boundary_bce_loss as a module."""

    def __init__(self, ignore_index: int = IGNORE_INDEX) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(
        self,
        edge_logits: Float[Tensor, "B 1 H W"],
        target: Integer[Tensor, "B H W"],
        boundary: Integer[Tensor, "B *one H W"] | Bool[Tensor, "B *one H W"] | Float[Tensor, "B *one H W"],
    ) -> Float[Tensor, ""]:
        return boundary_bce_loss(edge_logits, target, boundary, self.ignore_index)


class DualTaskLoss(nn.Module):
    """Cross-entropy where the predicted edge probability exceeds `threshold` (arXiv:1907.05740, eq. 6)."""

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


class JointLoss(nn.Module):
    """The weighted sum of all terms; the per-pixel cross-entropy is computed once and serves two of them.

    Returns, in forward, the unweighted terms that are switched on, by the name of their weight, and "total".

    Raises:
        ValueError: in forward, an edge term is switched on and the model has no edge logits.
    """

    def __init__(self, config: LossConfig, ignore_index: int = IGNORE_INDEX) -> None:
        super().__init__()
        self.config = config
        self.ignore_index = ignore_index

    def forward(self, output: SegmentationOutput, batch: SegBatch) -> dict[str, Float[Tensor, ""]]:
        config, target = self.config, batch.label
        pixel_loss = pixel_cross_entropy(output.seg_logits, target, self.ignore_index)
        terms = {"seg": masked_mean(pixel_loss, target != self.ignore_index)} if config.seg else {}
        if config.edge or config.attention:
            if output.edge_logits is None:
                raise ValueError("the model has no edge logits: set loss.edge and loss.attention to 0")
            if config.edge:
                terms["edge"] = boundary_bce_loss(output.edge_logits, target, batch.boundary, self.ignore_index)
            if config.attention:
                terms["attention"] = attention_loss(
                    pixel_loss, output.edge_logits, target, config.threshold, self.ignore_index
                )
        weights = config.model_dump()
        total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        return {"total": total, **terms}
