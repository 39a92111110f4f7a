from typing import Any

import cv2
import numpy as np
import pytest

from gscnn.constants import IGNORE_INDEX
from gscnn.edges import boundary_map
from gscnn_platform.config import AugmentationConfig, EdgeConfig
from gscnn_platform.data.store import SampleArrays
from gscnn_platform.data.transforms import TrainTransform

PLAIN: dict[str, Any] = {"colour_jitter": 0.0, "blur": 0.0}


def blocks(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A label of 12 x 12 pixel blocks of six classes and void."""
    small = rng.choice([0, 1, 2, 3, 4, 5, IGNORE_INDEX], (-(-height // 12), -(-width // 12))).astype(np.uint8)
    return small.repeat(12, 0).repeat(12, 1)[:height, :width]


def sample(seed: int, height: int = 90, width: int = 130) -> SampleArrays:
    """The image holds each pixel's row and column, so that a crop tells where it was taken."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    image = np.stack([rows + 1, columns + 1, np.full_like(rows, 100)], axis=2)
    return SampleArrays(image, blocks(rng, height, width), rng.integers(0, 2, (height, width), dtype=np.uint8) * 255)


@pytest.mark.parametrize("scale", [0.5, 0.77, 1.0, 1.6, 2.0])
@pytest.mark.parametrize("radius", [1, 2, 4])
@pytest.mark.parametrize("void_edges", [False, True])
def test_boundary_of_a_resized_crop_is_that_of_the_resized_mask(scale: float, radius: int, void_edges: bool) -> None:
    crop = (40, 60)
    augmentation = AugmentationConfig(crop=crop, scale=(scale, scale), flip=0.0, **PLAIN)
    transform = TrainTransform(augmentation, EdgeConfig(radius=radius, void_edges=void_edges))
    for seed in range(5):
        original = sample(seed)
        augmented = transform(original, (seed,))
        assert augmented.boundary is not None
        height, width = (round(side * scale) for side in original.label.shape)
        resized = cv2.resize(original.label, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        whole = boundary_map(resized, radius, void_edges=void_edges)
        # Where the crop lies is found by looking for its label in the resized mask, padded as the crop may be.
        pad = ((crop[0], crop[0]), (crop[1], crop[1]))
        padded_label = np.pad(resized, pad, constant_values=IGNORE_INDEX)
        places = find(padded_label, augmented.label)
        assert places, "the crop's label is cut from the resized mask"
        padded_boundary = np.pad(whole, pad)
        inside = np.pad(np.ones_like(whole), pad).astype(bool)
        assert any(
            np.array_equal(
                np.where(inside, padded_boundary, 0)[y : y + crop[0], x : x + crop[1]],
                np.where(inside[y : y + crop[0], x : x + crop[1]], augmented.boundary, 0),
            )
            for y, x in places
        )


def find(haystack: np.ndarray, needle: np.ndarray) -> list[tuple[int, int]]:
    """All places of `needle` in `haystack`."""
    height, width = needle.shape
    rows = np.lib.stride_tricks.sliding_window_view(haystack, width, axis=1)
    candidates = np.argwhere((rows[: haystack.shape[0] - height + 1] == needle[0]).all(axis=2))
    return [(int(y), int(x)) for y, x in candidates if np.array_equal(haystack[y : y + height, x : x + width], needle)]


def test_without_scaling_image_label_and_edge_prior_are_cut_at_the_same_place() -> None:
    transform = TrainTransform(AugmentationConfig(crop=(40, 60), scale=(1, 1), flip=0.5, **PLAIN), EdgeConfig())
    flipped = 0
    for seed in range(8):
        original = sample(seed)
        augmented = transform(original, (seed,))
        rows, columns = augmented.image[..., 0].astype(int) - 1, augmented.image[..., 1].astype(int) - 1
        np.testing.assert_array_equal(augmented.label, original.label[rows, columns])
        np.testing.assert_array_equal(augmented.gradient, original.gradient[rows, columns])
        flipped += bool(columns[0, 0] > columns[0, 1])
    assert 0 < flipped < 8


def test_beyond_the_image_lies_void_without_edges() -> None:
    transform = TrainTransform(AugmentationConfig(crop=(128, 160), scale=(0.5, 0.5), **PLAIN), EdgeConfig())
    augmented = transform(sample(0), (0,))
    outside = augmented.image[..., 2] == 0
    assert outside.mean() > 0.5
    assert (augmented.label[outside] == IGNORE_INDEX).all()
    assert augmented.boundary is not None
    assert not augmented.boundary[outside].any()
    assert not augmented.gradient[outside].any()


def test_the_same_seed_gives_the_same_sample_and_another_seed_another() -> None:
    transform = TrainTransform(AugmentationConfig(crop=(40, 60)), EdgeConfig())
    first, _, again = (transform(sample(0), seed) for seed in ((0, 1, 2), (0, 1, 3), (0, 1, 2)))
    other = transform(sample(0), (0, 2, 2))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.label, again.label)
    assert not np.array_equal(first.image, other.image)


def test_colour_and_blur_leave_label_and_edge_prior_alone() -> None:
    plain = TrainTransform(AugmentationConfig(crop=(40, 60), **PLAIN), EdgeConfig())
    jittered = TrainTransform(AugmentationConfig(crop=(40, 60), colour_jitter=0.5, blur=1.0), EdgeConfig())
    one, other = plain(sample(3), (7,)), jittered(sample(3), (7,))
    np.testing.assert_array_equal(one.label, other.label)
    np.testing.assert_array_equal(one.gradient, other.gradient)
    assert not np.array_equal(one.image, other.image)
