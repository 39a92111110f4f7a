"""The dual-task regularizer: prediction and ground truth should have the same outlines."""

from collections.abc import Callable, Sequence
from typing import Final

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad, softmax

from gscnn.constants import IGNORE_INDEX
from gscnn.losses.terms import ALONE, Counts, Term, divided, without_void

TRIANGLE_RADIUS: Final = 4
"""Radius of the dual-task regularizer's triangle filter in pixels: 1 2 3 4 5 4 3 2 1, divided by 25."""

FLAT: Final = 1e-3
"""Gradient magnitude of a flat map: the root of the 1e-6 that keeps the magnitude differentiable at 0."""

LEAST_MASS: Final = 1e-3
"""Only windows that are entirely void have less: a single pixel in the window's furthest corner has 1/625."""


def gumbel_noise(like: Float[Tensor, "B *S"], seeds: Sequence[int] | None = None) -> Float[Tensor, "B *S"]:
    """Standard Gumbel noise, finite, with the shape, type and device of `like`.

    Args:
        seeds: one per image, which determines its noise on any worker; None draws from the device's global generator.
    """
    if seeds is None:
        uniform = torch.rand_like(like)
    else:
        uniform = torch.empty_like(like, memory_format=torch.contiguous_format)
        for image, seed in zip(uniform, seeds, strict=True):
            image.uniform_(generator=torch.Generator(like.device).manual_seed(seed))
    # torch.rand is exactly 0 once in 2**24 draws, every fourth step of 2x19x360x360: the noise would be infinite.
    return uniform.clamp_(min=torch.finfo(like.dtype).tiny).log_().neg_().log_().neg_()


def smoothed(maps: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H+2 W+2"]:
    """Each map under the triangle filter, one pixel larger on each side; outside the frame, its border values
    continue."""
    channels, radius = maps.shape[1], TRIANGLE_RADIUS
    with torch.autocast(maps.device.type, enabled=False):
        offsets = torch.arange(-radius, radius + 1, device=maps.device, dtype=maps.dtype)
        rows = ((radius + 1 - offsets.abs()) / (radius + 1) ** 2).expand(channels, 1, 1, -1)
        padded = pad(maps, (radius + 1,) * 4, mode="replicate")
        return conv2d(conv2d(padded, rows, groups=channels), rows.mT, groups=channels)


def gradient_magnitude(
    maps: Float[Tensor, "B K H W"], valid: Bool[Tensor, "B 1 H W"] | None = None
) -> Float[Tensor, "B K H W"]:
    """Gradient magnitude of each map, smoothed by a triangle filter: `sqrt(dx^2 + dy^2 + 1e-6)`, FLAT or more.

    dx and dy are central differences of the smoothed map. A step from 0 to 1 along an axis has 0.18 on both sides, and
    more than FLAT up to 5 pixels away.

    Pixels that are not `valid` are not read, and their border is not a step: under the filter around each pixel, they
    count as if they had the weighted mean of the valid ones. The values returned for them are meaningless.
    """
    smooth = smoothed(maps if valid is None else maps.where(valid, 0))
    dx, dy = central_differences(smooth)
    if valid is not None:
        mass = smoothed(valid.to(maps.dtype))
        mean = smooth[..., 1:-1, 1:-1] / mass[..., 1:-1, 1:-1].clamp(min=LEAST_MASS)
        # The derivative of maps + mean * (1 - valid), with the mean at the filter's centre.
        mass_dx, mass_dy = central_differences(mass)
        dx, dy = dx - mean * mass_dx, dy - mean * mass_dy
    return dx.square().add_(dy.square()).add_(FLAT**2).sqrt_()


def central_differences(maps: Float[Tensor, "B C _ _"]) -> tuple[Tensor, Tensor]:
    """Central differences along x and along y, each two pixels smaller on both axes."""
    dx = (maps[..., 1:-1, 2:] - maps[..., 1:-1, :-2]).div_(2)
    dy = (maps[..., 2:, 1:-1] - maps[..., :-2, 1:-1]).div_(2)
    return dx, dy


def rise(maps: Float[Tensor, "B K H W"], valid: Bool[Tensor, "B 1 H W"] | None = None) -> Float[Tensor, "B K H W"]:
    """Gradient magnitude minus FLAT: 0 in flat areas and on pixels that are not `valid`."""
    above = gradient_magnitude(maps, valid) - FLAT
    return above if valid is None else above.where(valid, 0)


def edge_strength(
    maps: Float[Tensor, "B K H W"], valid: Bool[Tensor, "B 1 H W"] | None = None
) -> Float[Tensor, "B K H W"]:
    """`rise` divided by its maximum over the tensor: 0 in flat areas, 1 at the steepest pixel.

    A tensor without any slope stays 0: the divisor is FLAT or more. The maximum only sets the scale, so no gradient
    flows through it: the one pixel that holds it would get 2,800 times the median gradient on a frame of CamVid,
    instead of 3 times.
    """
    steepness = rise(maps, valid)
    return steepness.div_(steepness.detach().amax().clamp(min=FLAT))


def dual_term(
    seg_logits: Float[Tensor, "B K H W"],
    target: Integer[Tensor, "B H W"],
    temperature: float = 1.0,
    threshold: float = 0.2,
    ignore_index: int = IGNORE_INDEX,
    noise: Float[Tensor, "B K H W"] | None = None,
    noise_seeds: Sequence[int] | None = None,
    largest: Callable[[Tensor], Tensor] = ALONE.largest,
) -> Term:
    """Difference between the outlines of prediction and ground truth (arXiv:1907.05740, the dual-task regularizer).

    The prediction is a sample, softmax((logits + noise) / temperature), the ground truth is one-hot; their outlines are
    `edge_strength` among the non-void pixels. The term is half the mean |predicted - true outline| over the predicted
    boundary plus half of the same over the true boundary. A boundary is the non-void pixels where an outline exceeds
    `threshold`, separately for each class; if there are none, its half is 0.

    At the default of 0.2, a boundary extends 4 pixels to either side of an outline. In 16 training masks of CamVid
    (480x360, 11 classes), it covers 3.0% of [K, H, W], or 17% of the pixels in at least one class. In a prediction it
    covers the same 3% from a logit margin of 4; in pure noise it covers 5%, and 34% with a threshold of 0.1.

    The released code includes every pixel in both halves: the 1e-6 inside its root keeps all magnitudes at 1e-3 or
    more, far above the epsilon that it compares them with. Here, flat areas are 0.

    Args:
        noise: standard Gumbel noise; None draws `gumbel_noise` by `noise_seeds`.
        largest: maximum of both steepest values, of prediction and ground truth, over all batches that share a scale.
    """
    valid = (target != ignore_index).unsqueeze(1)
    # Void logits are masked before the softmax: after it, a NaN would be masked in the value but not in its gradient.
    logits = without_void(seg_logits, valid).contiguous()
    with torch.no_grad():
        classes = torch.arange(logits.shape[1], device=target.device).view(1, -1, 1, 1)
        true = rise((target.long().unsqueeze(1) == classes).to(logits.dtype), valid)
        noise = gumbel_noise(logits, noise_seeds) if noise is None else noise
    predicted = rise(softmax((logits + noise).div_(temperature), dim=1), valid)
    with torch.no_grad():
        units = largest(torch.stack((predicted.detach().amax(), true.amax()))).clamp(min=FLAT)
    predicted, true = predicted.div_(units[0]), true.div_(units[1])
    with torch.no_grad():
        boundaries = [(outline > threshold).logical_and_(valid) for outline in (predicted, true)]
    difference = (predicted - true).abs()

    def value(counts: Counts) -> Float[Tensor, ""]:
        with torch.no_grad():
            one = torch.ones_like(difference[0, 0, 0, 0])
            weight = sum(boundary * divided(one / 2, count) for boundary, count in zip(boundaries, counts, strict=True))
        return (difference * weight).sum()

    return Term(tuple(boundary.sum() for boundary in boundaries), value)


def dual_task_regularizer(
    seg_logits: Float[Tensor, "B K H W"],
    target: Integer[Tensor, "B H W"],
    temperature: float = 1.0,
    threshold: float = 0.2,
    ignore_index: int = IGNORE_INDEX,
    noise: Float[Tensor, "B K H W"] | None = None,
) -> Float[Tensor, ""]:
    """`dual_term` of this batch alone; without `noise`, its value depends on the device's global generator."""
    return dual_term(seg_logits, target, temperature, threshold, ignore_index, noise).alone()


class DualTaskRegularizer(nn.Module):
    """dual_task_regularizer as a module."""

    def __init__(self, temperature: float = 1.0, threshold: float = 0.2, ignore_index: int = IGNORE_INDEX) -> None:
        super().__init__()
        self.temperature = temperature
        self.threshold = threshold
        self.ignore_index = ignore_index

    def forward(self, seg_logits: Float[Tensor, "B K H W"], target: Integer[Tensor, "B H W"]) -> Float[Tensor, ""]:
        return dual_task_regularizer(seg_logits, target, self.temperature, self.threshold, self.ignore_index)
