"""Joint augmentation of image, label and edge prior, with edge labels that stay exact at any scale."""

import os
import random

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # Otherwise the import asks the network for a newer version.

import albumentations as A
import cv2
import numpy as np

from gscnn.constants import IGNORE_INDEX
from gscnn.edges import boundary_map
from gscnn_platform.config import AugmentationConfig, EdgeConfig
from gscnn_platform.data.store import SampleArrays


class TrainTransform:
    """Random resize, pad, crop, flip, colour jitter and blur of one sample.

    The edge label is derived after the resize, since its thickness must not scale with the image. It is derived on a
    crop that is larger by the boundary radius on each side, and then trimmed: it equals the label of the whole
    resized mask, cut to the crop. Beyond the image lies void. The edge prior is resized with the image.
    """

    def __init__(self, augmentation: AugmentationConfig, edges: EdgeConfig) -> None:
        self.edges = edges
        margin = edges.radius
        height, width = (side + 2 * margin for side in augmentation.crop)
        smallest, largest = augmentation.scale
        self._geometry = A.Compose(
            [
                A.RandomScale(
                    (smallest - 1, largest - 1),
                    interpolation=cv2.INTER_LINEAR,
                    # Plain INTER_NEAREST would shift the label against the image by half a source pixel.
                    mask_interpolation=cv2.INTER_NEAREST_EXACT,
                    p=1.0,
                ),
                A.Pad(margin, fill_mask=IGNORE_INDEX),
                A.PadIfNeeded(height, width, fill_mask=IGNORE_INDEX),
                A.RandomCrop(height, width),
                A.HorizontalFlip(p=augmentation.flip),
            ],
            additional_targets={"gradient": "image"},
            seed=0,
        )
        jitter = augmentation.colour_jitter
        around_one = (1 - jitter, 1 + jitter)
        self._appearance = A.Compose(
            [
                A.ColorJitter(around_one, around_one, around_one, (-jitter / 5, jitter / 5), p=1.0 if jitter else 0.0),
                A.GaussianBlur(blur_limit=0, sigma_limit=(0.15, 1.15), p=augmentation.blur),
            ],
            seed=0,
        )

    def __call__(self, sample: SampleArrays, seed: tuple[int, ...]) -> SampleArrays:
        """The augmented sample, of the crop's size; the same seed gives the same result."""
        numpy_random = np.random.default_rng(seed)
        python_random = random.Random(int(numpy_random.integers(2**63)))
        for compose in (self._geometry, self._appearance):
            compose.set_random_state(numpy_random, python_random)
        moved = self._geometry(image=sample.image, mask=sample.label, gradient=sample.gradient)
        margin = self.edges.radius
        inner = (slice(margin, -margin), slice(margin, -margin))
        label: np.ndarray = moved["mask"]
        boundary = boundary_map(label, margin, IGNORE_INDEX, self.edges.void_edges)[inner]
        image = self._appearance(image=np.ascontiguousarray(moved["image"][inner]))["image"]
        return SampleArrays(image, label[inner], moved["gradient"][inner], boundary)
