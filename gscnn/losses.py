"""The losses of Gated-SCNN: `L = seg * CE + edge * balanced BCE + attention * CE on predicted edges + dual * outlines`.

All take logits, count their valid pixels themselves, and stay on the device: no value is read back to the host and
no loop runs over the batch. Void pixels (ignore_index) count neither by value nor by gradient.
"""

from typing import Final

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, conv2d, cross_entropy, pad, softmax

from gscnn.batch import SegBatch
from gscnn.config import LossConfig
from gscnn.constants import IGNORE_INDEX
from gscnn.model import SegmentationOutput

TRIANGLE_RADIUS: Final = 4
"""Pixels on either side that the triangle filter of the dual-task regulariser reaches: 1 2 3 4 5 4 3 2 1, over 25."""

FLAT: Final = 1e-3
"""Gradient magnitude of a flat map: the root of the 1e-6 that keeps the magnitude differentiable at 0."""


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


def gumbel_noise(like: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """Standard Gumbel noise, finite, of the shape, type and device given, from the device's global generator."""
    # torch.rand is exactly 0 once in 2**24 draws, every fourth step of 2x19x360x360: the noise would be infinite.
    uniform = torch.rand_like(like).clamp_(min=torch.finfo(like.dtype).tiny)
    return uniform.log_().neg_().log_().neg_()


def gradient_magnitude(maps: Float[Tensor, "B K H W"]) -> Float[Tensor, "B K H W"]:
    """Steepness per pixel of each map, smoothed by a triangle filter: `sqrt(dx^2 + dy^2 + 1e-6)`, FLAT or more.

    dx and dy are central differences of the smoothed map, which goes on beyond the frame as at its border. A step
    from 0 to 1 along an axis has 0.18 on both sides, and above FLAT to 5 pixels from it.
    """
    classes, radius = maps.shape[1], TRIANGLE_RADIUS
    with torch.autocast(maps.device.type, enabled=False):
        offsets = torch.arange(-radius, radius + 1, device=maps.device, dtype=maps.dtype)
        rows = ((radius + 1 - offsets.abs()) / (radius + 1) ** 2).expand(classes, 1, 1, -1)
        smooth = pad(maps, (radius + 1,) * 4, mode="replicate")
        smooth = conv2d(conv2d(smooth, rows, groups=classes), rows.mT, groups=classes)
    dx = (smooth[..., 1:-1, 2:] - smooth[..., 1:-1, :-2]).div_(2)
    dy = (smooth[..., 2:, 1:-1] - smooth[..., :-2, 1:-1]).div_(2)
    return dx.square().add_(dy.square()).add_(FLAT**2).sqrt_()


def edge_strength(maps: Float[Tensor, "B K H W"]) -> Float[Tensor, "B K H W"]:
    """Gradient magnitude less FLAT, as a share of the largest in the tensor: 0 on flat ground, 1 at the steepest place.

    A tensor without any slope stays 0: nothing is divided by less than FLAT. The largest is a unit, not something to
    learn, so no gradient flows through it: the one pixel that holds it would get 2,800 times the median gradient on a
    frame of CamVid, instead of 3 times.
    """
    rise = gradient_magnitude(maps) - FLAT
    return rise.div_(rise.detach().amax().clamp(min=FLAT))


def dual_task_regularizer(
    seg_logits: Float[Tensor, "B K H W"],
    target: Integer[Tensor, "B H W"],
    temperature: float = 1.0,
    threshold: float = 0.2,
    ignore_index: int = IGNORE_INDEX,
    noise: Float[Tensor, "B K H W"] | None = None,
) -> Float[Tensor, ""]:
    """Difference between the outlines of prediction and truth (arXiv:1907.05740, the dual-task regulariser).

    The prediction is a sample, softmax((logits + noise) / temperature), the truth is one-hot, and both are 0 on void;
    their outlines are `edge_strength`. Returns half the mean |predicted - true outline| over the predicted boundary
    plus half of the same over the true one. A boundary is where an outline exceeds `threshold`, for each class by
    itself and outside void; where there is none, its half is 0.

    At the default of 0.2 a boundary reaches 4 pixels to either side of an outline: in 16 training masks of CamVid
    (480x360, 11 classes) 3.0% of [K, H, W], or 17% of the pixels in some class. Of a prediction it is the same 3% from
    a logit margin of 4 on; of nothing but noise it is 5%, where a threshold of 0.1 would take in 34%.

    The released code takes in every pixel in both halves: the 1e-6 inside its root keeps all magnitudes at 1e-3 or
    more, and it asks whether they reach a far smaller epsilon. Here flat ground is 0.

    Args:
        noise: standard Gumbel noise; None draws it from the device's global generator, so its seed settles the value.
    """
    valid = (target != ignore_index).unsqueeze(1)
    # Void logits go before the softmax: behind it, a NaN in them would be masked in the value but not in its gradient.
    logits = seg_logits.to(torch.promote_types(seg_logits.dtype, torch.float32)).where(valid, 0).contiguous()
    with torch.no_grad():
        classes = torch.arange(logits.shape[1], device=target.device).view(1, -1, 1, 1)
        label = target.long().unsqueeze(1).where(valid, -1)
        true = edge_strength((label == classes).to(logits.dtype))
        noise = gumbel_noise(logits) if noise is None else noise
    predicted = edge_strength(softmax((logits + noise).div_(temperature), dim=1) * valid)
    with torch.no_grad():
        boundaries = [(outline > threshold).logical_and_(valid) for outline in (predicted, true)]
        weight = sum(boundary / (2 * boundary.sum().clamp(min=1)) for boundary in boundaries)
    return ((predicted - true).abs() * weight).sum()


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


class DualTaskRegularizer(nn.Module):
    """dual_task_regularizer as a module."""

    def __init__(self, temperature: float = 1.0, threshold: float = 0.2, ignore_index: int = IGNORE_INDEX) -> None:
        super().__init__()
        self.temperature = temperature
        self.threshold = threshold
        self.ignore_index = ignore_index

    def forward(self, seg_logits: Float[Tensor, "B K H W"], target: Integer[Tensor, "B H W"]) -> Float[Tensor, ""]:
        return dual_task_regularizer(seg_logits, target, self.temperature, self.threshold, self.ignore_index)


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
                    pixel_loss, output.edge_logits, target, config.attention_threshold, self.ignore_index
                )
        if config.dual:
            terms["dual"] = dual_task_regularizer(
                output.seg_logits, target, config.dual_temperature, config.dual_threshold, self.ignore_index
            )
        weights = config.model_dump()
        total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        return {"total": total, **terms}
