"""Text and pictures of a validation."""

import math

import numpy as np
from torch import nn

from gscnn_platform.data.loader import fixed_samples, to_batch
from gscnn_platform.data.store import Identity, SplitReader
from gscnn_platform.scores import Score


def describe_score(score: Score, value: float) -> str:
    """Returns the score as text for users: `validation mIoU 0.4321`."""
    return "no validation score: every label is void" if math.isnan(value) else f"validation {score.title} {value:.4f}"


def validation_picture(model: nn.Module, reader: SplitReader, identity: Identity, count: int, title: str) -> np.ndarray:
    """Returns an RGB picture of the model's predictions for `count` validation samples, always the same ones."""
    from gscnn_platform.figures import Panels, draw_panels, predict_panels  # matplotlib: 2 s of a core

    chosen = fixed_samples(len(reader), count)
    device = next(model.parameters()).device
    panels: list[Panels] = []
    for index in chosen:
        panels += predict_panels(model, to_batch([reader.read(index)]).to(device))
    names = [reader.names[index] for index in chosen]
    return draw_panels(panels, names, identity.classes, identity.colours, title)
