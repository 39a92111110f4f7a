"""Joint augmentation of image, label and edge prior, with edge labels that are exact at any scale."""

import os
import random
from typing import Any

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # Otherwise the import looks for a newer version on the network.

import albumentations as A
import cv2
import numpy as np

from gscnn.constants import IGNORE_INDEX
from gscnn.edges import boundary_map
from gscnn_platform.config import AugmentationConfig, EdgeConfig
from gscnn_platform.data.images import edge_prior
from gscnn_platform.data.store import SampleArrays


class TrainTransform:
    """Random resize, pad, crop, flip, colour jitter and blur of one sample.

    The edge label is derived after the resize, because its thickness must not scale with the image. It is derived on a
    crop that is larger by the boundary radius on each side, and then trimmed, so it equals the edge label of the whole
    resized mask, cut to the crop. Pixels outside the image are void. With `edges.void_edges` it is derived from the
    crop alone, and the crop's frame counts as an edge, as in the released code.

    With a class, the crop contains one of its anchors and the anchor's neighbours, at a random place. So it contains
    the class, unless the resize shrinks the image and leaves no pixel of the object, such as a pole of one pixel.

    The edge prior is resized with the image, or derived from the augmented crop, depending on
    `augmentation.gradient`. It is 0 outside the image, and the image's frame causes no edge in it.
    """

    def __init__(self, augmentation: AugmentationConfig, edges: EdgeConfig) -> None:
        self.edges = edges
        # Without resizing, the store's prior is used, as in validation.
        self._derives = augmentation.gradient == "derived" and augmentation.scale != (1, 1)
        margin = edges.radius
        height, width = (side + 2 * margin for side in augmentation.crop)
        smallest, largest = augmentation.scale
        self._geometry = A.Compose(
            [
                A.RandomScale(
                    (smallest - 1, largest - 1),
                    interpolation=cv2.INTER_LINEAR if augmentation.interpolation == "bilinear" else cv2.INTER_CUBIC,
                    # Plain INTER_NEAREST would shift the label against the image by half a source pixel.
                    mask_interpolation=cv2.INTER_NEAREST_EXACT,
                    p=1.0,
                ),
                A.Pad(margin, fill_mask=IGNORE_INDEX),
                A.PadIfNeeded(height, width, fill_mask=IGNORE_INDEX),
                _RandomCrop(height, width, margin),
                A.HorizontalFlip(p=augmentation.flip),
            ],
            additional_targets={"beyond": "mask"} if self._derives else {"gradient": "image"},
            seed=0,
        )
        jitter = augmentation.colour_jitter
        around_one = (1 - jitter, 1 + jitter)
        hue = jitter / 5 if augmentation.hue_jitter is None else augmentation.hue_jitter
        self._appearance = A.Compose(
            [
                A.ColorJitter(around_one, around_one, around_one, (-hue, hue), p=1.0 if jitter or hue else 0.0),
                A.GaussianBlur(blur_limit=0, sigma_limit=augmentation.blur_sigma, p=augmentation.blur),
            ],
            seed=0,
        )

    def __call__(self, sample: SampleArrays, seed: tuple[int, ...], around: int | None = None) -> SampleArrays:
        """The augmented sample, of the crop's size; the same seed gives the same result.

        Args:
            sample: with anchors where there is a class to crop around.
            seed: of all that is random.
            around: class of one of the anchors.
        """
        numpy_random = np.random.default_rng(seed)
        python_random = random.Random(int(numpy_random.integers(2**63)))
        for compose in (self._geometry, self._appearance):
            compose.set_random_state(numpy_random, python_random)
        arrays: dict[str, Any] = {"image": sample.image, "mask": sample.label}
        arrays |= {"beyond": np.zeros_like(sample.label)} if self._derives else {"gradient": sample.gradient}
        if around is not None:
            assert sample.anchors is not None
            of_class = sample.anchors[sample.anchors[:, 0] == around, 1:]
            anchor = (numpy_random.choice(of_class) + 0.5) / sample.label.shape
            arrays["anchor"] = tuple(anchor.tolist())  # An array would be taken for an image.
        moved = self._geometry(**arrays)
        margin = self.edges.radius
        inner = (slice(margin, -margin), slice(margin, -margin))
        framed: np.ndarray = moved["mask"]
        label = framed[inner]
        if self.edges.void_edges:
            boundary = boundary_map(label, margin, IGNORE_INDEX, void_edges=True)
        else:
            boundary = boundary_map(framed, margin, IGNORE_INDEX)[inner]
        image = np.ascontiguousarray(moved["image"][inner])
        if not self._derives:
            return SampleArrays(self._appearance(image=image)["image"], label, moved["gradient"][inner], boundary)
        part, gradient = _rectangle(moved["beyond"][inner] == 0), np.zeros_like(label)
        # Blurring across the image's frame into black would cause an edge that inference never sees.
        image[part] = self._appearance(image=np.ascontiguousarray(image[part]))["image"]
        gradient[part] = edge_prior(np.ascontiguousarray(image[part]), self.edges)
        return SampleArrays(image, label, gradient, boundary)


class _RandomCrop(A.RandomCrop):
    """A.RandomCrop; with an `anchor` among the data, a crop that has that pixel and its neighbours, anywhere in it.

    `anchor` is the row and column of the pixel's centre as shares of the image's sides, which the resize leaves alone.

    Args:
        height, width: of the crop with its margin, in pixels.
        margin: pixels around the image, and around the part of the crop where the anchor must be.
    """

    def __init__(self, height: int, width: int, margin: int) -> None:
        super().__init__(height, width)
        self.margin = margin

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        if "anchor" not in data:
            return super().get_params_dependent_on_data(params, data)
        starts: list[int] = []
        for share, padded, crop in zip(data["anchor"], params["shape"], (self.height, self.width), strict=False):
            # Of an image that was padded to the crop's side this is not the side, and the only start is 0 all the same.
            side, inner = padded - 2 * self.margin, crop - 2 * self.margin
            pixel = int(share * side)
            # Of an object that the resize shrinks to a pixel that may be the neighbour: both are in the crop.
            first, last = max(pixel - 1, 0), min(pixel + 1, side - 1)
            starts.append(self.py_random.randint(max(0, last - inner + 1), min(first, side - inner)))
        top, left = starts
        return {"crop_coords": (left, top, left + self.width, top + self.height), "pad_params": None}


def _rectangle(inside: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of the part of a crop that lies inside the image."""
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
