"""The text and the pictures of a validation."""

import math

import numpy as np
from torch import nn

from gscnn_platform.data.loader import fixed_samples, to_batch
from gscnn_platform.data.store import Identity, SplitReader
from gscnn_platform.scores import Score


def describe_score(score: Score, value: float) -> str:
    """`validation mIoU 0.4321`, for users."""
    return "no validation score: every label is void" if math.isnan(value) else f"validation {score.title} {value:.4f}"


def validation_picture(model: nn.Module, reader: SplitReader, identity: Identity, count: int, title: str) -> np.ndarray:
    """The model's view of a few validation samples, always the same, as an RGB picture."""
    from gscnn_platform.figures import Panels, draw_panels, predict_panels  # matplotlib: 2 s of a core

    chosen = fixed_samples(len(reader), count)
    device = next(model.parameters()).device
    panels: list[Panels] = []
    for index in chosen:
        panels += predict_panels(model, to_batch([reader.read(index)]).to(device))
    names = [reader.names[index] for index in chosen]
    return draw_panels(panels, names, identity.classes, identity.colours, title)
