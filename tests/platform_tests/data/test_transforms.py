from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from gscnn.constants import IGNORE_INDEX
from gscnn.edges import boundary_map, image_gradient
from gscnn_platform.config import AugmentationConfig, EdgeConfig
from gscnn_platform.data.class_uniform import anchors_of
from gscnn_platform.data.formats.streets import Streets
from gscnn_platform.data.images import edge_prior
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
    label, gradient = blocks(rng, height, width), rng.integers(0, 2, (height, width), dtype=np.uint8) * 255
    return SampleArrays(image, label, gradient, anchors=anchors_of(label))


@pytest.mark.parametrize("scale", [0.5, 0.77, 1.0, 1.6, 2.0])
@pytest.mark.parametrize("radius", [1, 2, 4])
@pytest.mark.parametrize("around", [None, 3])
def test_boundary_of_a_resized_crop_is_that_of_the_resized_mask(scale: float, radius: int, around: int | None) -> None:
    crop = (40, 60)
    augmentation = AugmentationConfig(crop=crop, scale=(scale, scale), flip=0.0, **PLAIN)
    transform = TrainTransform(augmentation, EdgeConfig(radius=radius))
    for seed in range(5):
        original = sample(seed)
        augmented = transform(original, (seed,), around)
        assert augmented.boundary is not None
        height, width = (round(side * scale) for side in original.label.shape)
        resized = cv2.resize(original.label, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        whole = boundary_map(resized, radius)
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


@pytest.mark.parametrize("radius", [1, 2])
def test_with_void_edges_the_crops_own_frame_is_an_edge_as_in_the_released_code(radius: int) -> None:
    transform = TrainTransform(
        AugmentationConfig(crop=(40, 60), scale=(1, 2), **PLAIN), EdgeConfig(radius=radius, void_edges=True)
    )
    one_class = replace(sample(0), label=np.ones((90, 130), np.uint8))
    augmented = transform(one_class, (0,))
    expected = np.ones((40, 60), np.uint8)
    expected[radius:-radius, radius:-radius] = 0
    assert (augmented.label == 1).all()
    np.testing.assert_array_equal(augmented.boundary, expected)


@pytest.fixture(scope="module")
def scene() -> SampleArrays:
    image, label = Streets(height=160, width=240).samples(None, "val")[0].read()
    noisy = np.clip(image + np.random.default_rng(0).normal(0, 3, image.shape), 0, 255).astype(np.uint8)
    return SampleArrays(noisy, label, edge_prior(noisy, EdgeConfig()))


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_the_derived_prior_is_that_of_the_resized_image_and_the_resized_one_is_not(
    scale: float, scene: SampleArrays
) -> None:
    """The crop is the whole resized image, so that the prior can be held against OpenCV's of that image."""
    height, width = (round(side * scale) for side in scene.label.shape)
    resized = cv2.resize(scene.image, (width, height), interpolation=cv2.INTER_LINEAR)
    truth = cv2.Canny(resized, 10, 100) > 0
    overlap = {}
    for way in ("derived", "resized"):
        augmentation = AugmentationConfig(crop=(height, width), scale=(scale, scale), flip=0, gradient=way, **PLAIN)
        augmented = TrainTransform(augmentation, EdgeConfig())(scene, (0,))
        # The margin for the edge label lies around the image, so a crop of its size may be shifted by two pixels.
        rows, columns = (np.flatnonzero(augmented.image.any(axis=(axis, 2))) for axis in (1, 0))
        part = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        shifted = place_of(augmented.image[part], resized)
        found = augmented.gradient[part]
        expected = truth[shifted[0] : shifted[0] + found.shape[0], shifted[1] : shifted[1] + found.shape[1]]
        overlap[way] = ((found > 0) & expected).sum() / ((found > 0) | expected).sum()
        if way == "derived":
            assert set(np.unique(augmented.gradient)) == {0, 255}
    assert overlap["derived"] > 0.98
    assert overlap["resized"] < 0.6


def place_of(part: np.ndarray, whole: np.ndarray) -> tuple[int, int]:
    difference = cv2.matchTemplate(whole, np.ascontiguousarray(part), cv2.TM_SQDIFF)
    row, column = np.unravel_index(difference.argmin(), difference.shape)
    return int(row), int(column)


def test_the_derived_prior_is_of_the_augmented_crop_with_colour_and_blur(scene: SampleArrays) -> None:
    augmentation = AugmentationConfig(crop=(64, 96), scale=(1.2, 1.6), blur=1.0, gradient="derived")
    for seed in range(3):
        augmented = TrainTransform(augmentation, EdgeConfig())(scene, (seed,))
        np.testing.assert_array_equal(augmented.gradient, cv2.Canny(augmented.image, 10, 100))
        assert augmented.gradient.any()


def test_the_derived_prior_sees_no_edge_where_the_image_ends(scene: SampleArrays) -> None:
    grey = replace(scene, image=np.full_like(scene.image, 200))
    augmentation = AugmentationConfig(crop=(128, 200), scale=(0.4, 0.6), gradient="derived")
    for seed in range(3):
        augmented = TrainTransform(augmentation, EdgeConfig())(grey, (seed,))
        assert len(np.unique(augmented.image)) > 1, "there is black beyond the image, and blur and jitter at its frame"
        assert not augmented.gradient.any()


def test_a_crop_that_is_not_scaled_has_the_stores_prior() -> None:
    fields = {"crop": (40, 60), "scale": (1, 1), "colour_jitter": 0.25, "blur": 1.0}
    derived, resized = (
        TrainTransform(AugmentationConfig(gradient=way, **fields), EdgeConfig()) for way in ("derived", "resized")
    )
    for seed in range(4):
        np.testing.assert_array_equal(derived(sample(seed), (seed,)).gradient, resized(sample(seed), (seed,)).gradient)


def test_sobel_priors_are_derived_too(scene: SampleArrays) -> None:
    augmentation = AugmentationConfig(crop=(64, 96), scale=(1.2, 1.6), gradient="derived")
    augmented = TrainTransform(augmentation, EdgeConfig(gradient="sobel"))(scene, (0,))
    np.testing.assert_array_equal(augmented.gradient, np.rint(image_gradient(augmented.image, "sobel") * 255))


def test_interpolation_hue_and_blur_follow_their_fields() -> None:
    settings = {
        "plain": {"interpolation": "bilinear"},
        "bicubic": {"interpolation": "bicubic"},
        "hue": {"hue_jitter": 0.25},
        "blur": {"blur": 1.0, "blur_sigma": (3.0, 3.0)},
        "less blur": {"blur": 1.0, "blur_sigma": (0.5, 0.5)},
    }
    original = replace(sample(0), image=np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8))
    images = {
        name: TrainTransform(
            AugmentationConfig(**{"crop": (40, 60), "scale": (1.5, 1.5), **PLAIN, **fields}), EdgeConfig()
        )(original, (1,)).image
        for name, fields in settings.items()
    }
    contrast = {name: float(image.astype(float).std()) for name, image in images.items()}
    assert contrast["bicubic"] > 1.05 * contrast["plain"], "cubic interpolation keeps more of the detail"
    assert contrast["blur"] < 0.7 * contrast["less blur"] < 0.7 * contrast["plain"]
    saturation = [cv2.cvtColor(images[name], cv2.COLOR_RGB2HSV)[..., 2].mean() for name in ("plain", "hue")]
    assert saturation[0] == pytest.approx(saturation[1], rel=0.02), "a turn of the hue leaves the value as it is"
    assert not np.array_equal(images["plain"], images["hue"])


def with_object(row: int, column: int, size: int, height: int = 90, width: int = 130) -> SampleArrays:
    """A square of class 1 in class 0."""
    label = np.zeros((height, width), np.uint8)
    label[row : row + size, column : column + size] = 1
    image = np.zeros((height, width, 3), np.uint8)
    return SampleArrays(image, label, label, anchors=anchors_of(label))


@pytest.mark.parametrize("scale", [(0.3, 1.0), (1.0, 2.0), (0.2, 3.0), (1, 1)])
@pytest.mark.parametrize("place", [(0, 0), (88, 128), (45, 128), (40, 60)])
def test_a_crop_around_a_class_contains_it_wherever_it_lies(scale: tuple[float, float], place: tuple[int, int]) -> None:
    """A single pixel is in every crop that shrinks nothing, and one as large as the resize's step in all others."""
    size = 2 if scale == (1.0, 2.0) else 1 if scale == (1, 1) else 6
    row, column = (min(at, side - size) for at, side in zip(place, (90, 130), strict=True))
    for crop in ((32, 48), (128, 32), (200, 200)):
        for gradient in ("resized", "derived"):
            transform = TrainTransform(AugmentationConfig(crop=crop, scale=scale, gradient=gradient), EdgeConfig())
            for seed in range(25):
                augmented = transform(with_object(row, column, size), (seed,), around=1)
                assert augmented.label.shape == crop
                assert (augmented.label == 1).any(), f"crop {crop}, seed {seed}"


def test_a_crop_around_a_class_is_anywhere_where_it_has_the_anchor_and_all_places_are_alike() -> None:
    """A pixel far from the frame of a large image: in any row and column of a crop of 32 x 40 but the outermost."""
    original = with_object(100, 100, 1, 200, 220)
    transform = TrainTransform(AugmentationConfig(crop=(32, 40), scale=(1, 1), **PLAIN), EdgeConfig())
    found = np.array([np.argwhere(transform(original, (seed,), around=1).label == 1)[0] for seed in range(1600)])
    for axis, side in enumerate((32, 40)):
        counts = np.bincount(found[:, axis], minlength=side)
        assert counts[0] == counts[-1] == 0
        # Chi-square, with a mean of places - 1 and a variance of twice that.
        places = side - 2
        deviations = ((counts[1:-1] - 1600 / places) ** 2 / (1600 / places)).sum()
        assert deviations < places - 1 + 4 * np.sqrt(2 * (places - 1))


def test_a_crop_around_a_class_depends_on_its_seed_alone_and_uses_all_anchors() -> None:
    transform = TrainTransform(AugmentationConfig(crop=(32, 40), scale=(1, 1), **PLAIN), EdgeConfig())
    original = sample(0, 200, 250)
    first = [transform(original, (0, 1, seed), around=2) for seed in range(60)]
    again = [transform(original, (0, 1, seed), around=2) for seed in range(60)]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.label, other.label)
    assert original.anchors is not None
    for _, row, column in original.anchors[original.anchors[:, 0] == 2]:
        pixel = original.image[row, column]
        assert any((one.image == pixel).all(axis=2).any() for one in first)
