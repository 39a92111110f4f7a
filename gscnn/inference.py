"""Predicts whole frames with sliding windows, several scales and flips, and averages the probabilities."""

from __future__ import annotations

import math
from itertools import product
from typing import NamedTuple

import torch
from jaxtyping import Float, Float32, Float64, Int64, UInt8
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gscnn.config import InferenceConfig
from gscnn.model import SegmentationOutput


class Prediction(NamedTuple):
    """The prediction for a batch of images: float32, at the images' size, computed in inference mode (no autograd)."""

    probabilities: Float32[Tensor, "B K H W"]
    """Probability of each class; they sum to 1."""
    edge: Float32[Tensor, "B 1 H W"] | None
    """Probability that the pixel is on an outline; None for a model without a shape stream."""

    @property
    def label(self) -> UInt8[Tensor, "B H W"]:
        """The most probable class, computed at each access."""
        return self.probabilities.argmax(dim=1).to(torch.uint8)


class _Window(NamedTuple):
    """A window along one axis: the pixels that it reads from the scaled image, and what it adds to the output.

    Output pixel `target.start + t` gets `low_weight[t]` times the window's pixel `low[t]`, and `high_weight[t]` times
    its pixel `high[t]`. The weights combine the window's share of that pixel with the linear resize.
    """

    source: slice
    target: slice
    low_weight: Float32[Tensor, " T"]
    low: Int64[Tensor, " T"] | None
    """None if the scaled image has the output's size, so that nothing is resized."""
    high_weight: Float32[Tensor, " T"]
    high: Int64[Tensor, " T"]


def infer(
    model: nn.Module, image: Float[Tensor, "B 3 H W"], gradient: Float[Tensor, "B 1 H W"], config: InferenceConfig
) -> Prediction:
    """The mean of the model's probabilities over all scales and flips, with equal weights.

    Image and edge prior are resized as in training: bilinearly, to the nearest whole size, without a low-pass filter
    when they shrink (OpenCV's INTER_LINEAR). Softmax, sigmoid and all sums are in float32, also under autocast. One
    pass over the whole image returns the softmax and sigmoid of the model's logits, bit for bit.

    Windows run one after the other, each for the whole batch, and are added to the output immediately. Memory holds the
    inputs at one scale, the output, and one window's forward pass and resize, however large the scaled image is.

    Args:
        model: called as model(image, gradient), returns a SegmentationOutput; in evaluation mode.
        image: normalized (gscnn.batch.normalize), of any size.
        gradient: edge prior, in [0, 1].
        config: the passes.

    Raises:
        ValueError: the model, or a part of it, is in training mode; the gradient is not [B, 1, H, W] with the image's
            B, H and W.
    """
    if any(module.training for module in model.modules()):
        raise ValueError(
            "the model is in training mode: batch norm would normalize each window by its own statistics and "
            "update the running ones; call model.eval() first"
        )
    if gradient.shape != (image.shape[0], 1, *image.shape[-2:]):
        raise ValueError(f"gradient is {tuple(gradient.shape)}, image is {tuple(image.shape)}: need [B, 1, H, W]")
    height, width = image.shape[-2:]
    mirrored = (False, True) if config.flip else (False,)
    with torch.inference_mode():
        probabilities, edge = _Sum(height, width), _Sum(height, width)
        for scale in config.scales:
            size = _scaled(height, scale), _scaled(width, scale)
            resized, prior = _resize(image, size), _resize(gradient, size)
            window = config.window or size
            rows = _windows(height, size[0], window[0], config.overlap, image.device)
            columns = _windows(width, size[1], window[1], config.overlap, image.device)
            for row, column, mirror in product(rows, columns, mirrored):
                at = (..., row.source, column.source)
                of_window = _predict(model, resized[at], prior[at], mirror)
                probabilities.add(of_window.probabilities, row, column)
                if of_window.edge is not None:
                    edge.add(of_window.edge, row, column)
                # Otherwise it would stay in memory during the next window's forward pass.
                del of_window
        passes = len(config.scales) * len(mirrored)
        assert probabilities.value is not None
        return Prediction(probabilities.value.div_(passes), None if edge.value is None else edge.value.div_(passes))


def boundary_entropy(probabilities: Float[Tensor, "B K H W"], label: UInt8[Tensor, "B H W"]) -> Float64[Tensor, " B"]:
    """How undecided each image's prediction is where it draws its outlines: 0 is certain, 1 is a guess.

    The entropy -sum_k p_k log p_k of the K class probabilities, divided by its maximum log K, averaged over the pixels
    that have a neighbour of another class above, below, left or right (`gscnn.edges.boundary_map` with radius 1). NaN
    for an image that is predicted as a single class.

    Args:
        probabilities: of each class; they sum to 1.
        label: the most probable class, as in `Prediction.label`.
    """
    across, down = label[..., 1:] != label[..., :-1], label[:, 1:] != label[:, :-1]
    at = torch.zeros_like(label, dtype=torch.bool)
    at[..., 1:] |= across
    at[..., :-1] |= across
    at[:, 1:] |= down
    at[:, :-1] |= down
    image, row, column = at.nonzero(as_tuple=True)
    # Only at the boundary, a few percent of the pixels: over all of them it would cost as much as the softmax.
    entropy = torch.special.entr(probabilities[image, :, row, column]).sum(dim=1, dtype=torch.float64)
    total = torch.zeros(len(label), dtype=torch.float64, device=label.device).index_add_(0, image, entropy)
    return total / at.sum(dim=(1, 2)) / math.log(max(2, probabilities.shape[1]))


def window_starts(side: int, window: int, overlap: float) -> list[int]:
    """First pixels of the fewest windows that cover an axis with at least the given overlap.

    They are evenly spaced, to within a pixel; the first starts at 0, the last ends at `side`. If the overlap leaves a
    step of less than a pixel, the step is 1.

    Args:
        side: length of the axis, in pixels.
        window: length of a window, 1 to `side` pixels.
        overlap: minimum share of its length that a window has in common with the next.
    """
    # 100 * 0.07 is 7.000000000000001: rounding that up would shorten the step by a pixel.
    longest_step = max(1, window - math.ceil(round(window * overlap, 9)))
    steps = -(-(side - window) // longest_step)
    return [number * (side - window) // max(1, steps) for number in range(steps + 1)]


def blending_weights(side: int, window: int, starts: list[int]) -> Float64[Tensor, "N side"]:
    """Share of each of the N windows in each pixel of an axis; a pixel's shares sum to 1.

    Before normalization, a window's weight at a pixel is the distance to the window's nearer end, half a pixel for the
    outermost pixel. So two windows cross-fade linearly over their whole overlap, and a window has the least weight
    where it has the least context. An end at the image's border does not count: no other window has more context there.
    """
    first = torch.tensor(starts, dtype=torch.float64)[:, None]
    pixel = torch.arange(side, dtype=torch.float64)
    from_left = torch.where(first > 0, pixel - first + 0.5, window)
    from_right = torch.where(first + window < side, first + window - pixel - 0.5, window)
    weights = torch.minimum(from_left, from_right).clamp(0, window)
    return weights / weights.sum(dim=0)


def _windows(side: int, scaled: int, window: int, overlap: float, device: torch.device) -> list[_Window]:
    """The windows along an axis of `scaled` pixels, whose output has `side` pixels."""
    window = min(window, scaled)
    starts = window_starts(scaled, window, overlap)
    # The position of an output pixel's centre in the scaled image (align_corners=False, as in OpenCV).
    position = ((torch.arange(side, dtype=torch.float64) + 0.5) * scaled / side - 0.5).clamp(min=0)
    low = position.long()
    high = (low + 1).clamp(max=scaled - 1)
    part = position - low
    found = []
    for start, weight in zip(starts, blending_weights(scaled, window, starts), strict=True):
        low_weight, high_weight = weight[low] * (1 - part), weight[high] * part
        reached = (low_weight + high_weight).nonzero().flatten().tolist()
        # A window of one or two pixels may lie between the pixels of a smaller output.
        target = slice(reached[0], reached[-1] + 1) if reached else slice(0, 0)
        # The neighbour outside the window has weight 0, so any pixel can stand in for it.
        inside = [(index[target] - start).clamp(0, window - 1).to(device) for index in (low, high)]
        found.append(
            _Window(
                slice(start, start + window),
                target,
                low_weight[target].float().to(device),
                None if scaled == side else inside[0],
                high_weight[target].float().to(device),
                inside[1],
            )
        )
    return found


class _Sum:
    """Sum of the windows' contributions to an output of height x width."""

    def __init__(self, height: int, width: int) -> None:
        self.size = (height, width)
        self.value: Float32[Tensor, "B C H W"] | None = None

    def add(self, values: Float32[Tensor, "B C h w"], row: _Window, column: _Window) -> None:
        """Adds one window's `values`, which may be overwritten."""
        part = _spread(_spread(values, 2, row), 3, column)
        if self.value is not None:
            self.value[..., row.target, column.target] += part
        elif part.shape[-2:] == self.size:
            # A window that covers everything is itself the sum: one pass over the whole image makes no copy.
            self.value = part
        else:
            self.value = part.new_zeros(*part.shape[:2], *self.size)
            self.value[..., row.target, column.target] = part


def _spread(values: Float32[Tensor, "B C h w"], axis: int, window: _Window) -> Float32[Tensor, "B C H W"]:
    """A window's values, weighted and resized along `axis` (2 or 3) to the pixels of `window.target`."""
    shape = (-1, 1) if axis == 2 else (-1,)
    if window.low is None:
        return values.mul_(window.low_weight.view(shape))
    spread = values.index_select(axis, window.low).mul_(window.low_weight.view(shape))
    return spread.addcmul_(values.index_select(axis, window.high), window.high_weight.view(shape))


def _predict(
    model: nn.Module, image: Float[Tensor, "B 3 h w"], gradient: Float[Tensor, "B 1 h w"], mirror: bool
) -> Prediction:
    """One pass of the model; `mirror` flips the inputs horizontally, and the output back."""
    if mirror:
        image, gradient = image.flip(-1), gradient.flip(-1)
    output: SegmentationOutput = model(image, gradient)
    probabilities = torch.softmax(output.seg_logits, dim=1, dtype=torch.float32)
    edge = None if output.edge_logits is None else torch.sigmoid(output.edge_logits.float())
    if mirror:
        probabilities, edge = probabilities.flip(-1), None if edge is None else edge.flip(-1)
    return Prediction(probabilities, edge)


def _scaled(side: int, scale: float) -> int:
    return max(1, round(side * scale))


def _resize(x: Float[Tensor, "B C H W"], size: tuple[int, int]) -> Float[Tensor, "B C h w"]:
    return x if x.shape[-2:] == size else interpolate(x, size=size, mode="bilinear", align_corners=False)
