"""The augmented view: crops of one sample as training sees them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import UInt8

from gscnn_platform.config import ExperimentConfig
from gscnn_platform.data.loader import crops_of
from gscnn_platform.data.store import SplitReader
from gscnn_platform.figures import denormalize
from gscnn_platform.label_pictures import colourise

DRAWS: Final = 8


@dataclass(frozen=True)
class AugmentedCrop:
    """One training crop."""

    image: UInt8[np.ndarray, "H W 3"]
    """RGB."""
    label: UInt8[np.ndarray, "H W"]
    """Train ids, and IGNORE_INDEX for void and for pixels outside the image."""
    colours: UInt8[np.ndarray, "H W 3"]
    """The label in its classes' colours; void is black."""
    prior: UInt8[np.ndarray, "H W"]
    """Edge prior times 255."""
    boundary: UInt8[np.ndarray, "H W"]
    """Edge label: 0 or 1."""


def augmented_crops(
    reader: SplitReader,
    config: ExperimentConfig,
    index: int,
    colours: Sequence[tuple[int, int, int]],
    count: int = DRAWS,
) -> list[AugmentedCrop]:
    """The first `count` crops that a run takes of sample `index`: a function of the recipe, its seed and the store.

    Args:
        reader: the samples that the run trains on.
        config: the run's.
        index: of the sample in `reader`.
        colours: RGB of each class.
        count: crops, one per epoch unless the recipe draws samples by class or repeats some to fill a step.

    Raises:
        StoreError: the sample, or the anchors that `data.class_uniform` needs, cannot be read.
    """
    batch = crops_of(reader, config, index, count)
    priors = (batch.gradient[:, 0] * 255).round().byte().numpy()
    return [
        AugmentedCrop(denormalize(image), label, colourise(label, colours), prior, boundary)
        for image, label, prior, boundary in zip(
            batch.image, batch.label.numpy(), priors, batch.boundary[:, 0].numpy(), strict=True
        )
    ]
