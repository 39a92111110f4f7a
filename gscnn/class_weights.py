"""Weights of the classes in the cross-entropy, from how many pixels a dataset has of each."""

from collections.abc import Sequence

import numpy as np

from gscnn.config import LossConfig


def class_weights(config: LossConfig, pixels: Sequence[int], images: int) -> np.ndarray | None:
    """Weight of each class, float64 [K]; None if `config.class_weights` is None or "image", which need no dataset.

    `share` is a class's part of all pixels, void excluded:

    - "inverse_log": 1 / ln(1.02 + share) (ENet, arXiv:1606.02147)
    - "median_frequency": median share / share (SegNet, arXiv:1511.00561; there, the share among the images that have
      the class; here, among all)
    - "effective_number": (1 - beta) / (1 - beta^n), with mean 1 (Cui et al., arXiv:1901.05555). n is the class's share
      times `images`, as neighbouring pixels are far from independent samples; beta is `effective_number_beta`

    A class without pixels gets the largest weight of the others, and median and mean leave it out. The weighted mean of
    the cross-entropy does not depend on the scale of the weights.

    Args:
        config: what the loss is to use.
        pixels: of each class.
        images: that have these pixels.
    """
    weighting = config.class_weights
    if weighting is None or weighting == "image":
        return None
    if not isinstance(weighting, str):
        return np.array(weighting)
    counts = np.array(pixels, np.float64)
    found = counts > 0
    if not found.any():
        return np.ones(len(counts))
    shares = counts[found] / counts.sum()
    if weighting == "inverse_log":
        of_found = 1 / np.log(1.02 + shares)
    elif weighting == "median_frequency":
        of_found = np.median(shares) / shares
    else:
        beta = config.effective_number_beta
        of_found = (1 - beta) / (1 - beta ** (images * shares))
        of_found /= of_found.mean()
    weights = np.full(len(counts), of_found.max())
    weights[found] = of_found
    return weights
