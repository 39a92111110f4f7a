"""Label maps as the boundary metrics read them: arrays on the CPU, checked, with void as one more class."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Labels = NDArray[np.integer] | Tensor
"""Train ids, [H, W] or [B, H, W]."""


def frames_of(
    prediction: Labels, truth: Labels, ignore_index: int
) -> list[tuple[NDArray[np.integer], NDArray[np.integer]]]:
    """Prediction and truth [H, W] of a frame or of each frame of a batch, except frames that are entirely void.

    Raises:
        ValueError: the shapes differ, or are neither [H, W] nor [B, H, W].
    """
    predicted, true = _to_numpy(prediction), _to_numpy(truth)
    if predicted.shape != true.shape:
        raise ValueError(f"prediction is {list(predicted.shape)}, truth is {list(true.shape)}")
    if true.ndim not in (2, 3):
        raise ValueError(f"truth is {list(true.shape)}: need [H, W] or [B, H, W]")
    if true.ndim == 2:
        predicted, true = predicted[None], true[None]
    return [pair for pair in zip(predicted, true, strict=True) if (pair[1] != ignore_index).any()]


def require_label_maps(prediction: NDArray[np.integer], truth: NDArray[np.integer]) -> None:
    """Raises ValueError if the shapes differ or are not [H, W], or if the values are not integers."""
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction is {list(prediction.shape)}, truth is {list(truth.shape)}")
    for name, labels in (("prediction", prediction), ("truth", truth)):
        if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(f"{name} is {labels.dtype} {list(labels.shape)}: need integers [H, W]")


def write_labels(
    prediction: NDArray[np.integer],
    truth: NDArray[np.integer],
    rows: slice,
    num_classes: int,
    ignore_index: int,
    out: NDArray[np.unsignedinteger],
) -> None:
    """Writes these rows of both maps into `out` [2, rows, W], with K where the truth is void.

    Args:
        prediction: train ids [H, W]; any value where the truth is void.
        truth: train ids [H, W].
        rows: of the maps, from a start to a stop.
        num_classes: K, which the type of `out` must hold.
        ignore_index: value of void in the truth.
        out: where to write.

    Raises:
        ValueError: a value is neither a class nor, in the truth, void.
    """
    dtype = out.dtype
    void = truth[rows] == ignore_index
    as_void = np.multiply(void, num_classes, dtype=dtype)
    known = (~void).view(np.uint8)
    for name, frame, written in zip(("prediction", "truth"), (prediction, truth), out, strict=True):
        values = frame[rows]
        if values.min() >= 0 and values.max() <= np.iinfo(dtype).max:
            # Two frames of int64, which argmax returns, took 31 ms in that type and take 24 ms in one byte.
            values = values.astype(dtype, copy=False)
        values = values * known
        if not (values.min() >= 0 and values.max() < num_classes):
            valid = frame[truth != ignore_index]
            raise ValueError(f"{name} holds {valid.min()} to {valid.max()}: need 0 to {num_classes - 1}")
        np.add(values, as_void, out=written, casting="unsafe")


def _to_numpy(labels: Labels) -> NDArray[np.integer]:
    if not isinstance(labels, Tensor):
        return labels
    if labels.device.type != "cpu" and labels.numel():
        # Copy one byte per pixel if the values fit: 2 MB for a 2048x1024 frame instead of int64's 16.
        lowest, highest = labels.aminmax()
        if lowest >= 0 and highest <= 255:
            labels = labels.to(torch.uint8)
    return labels.cpu().numpy()
