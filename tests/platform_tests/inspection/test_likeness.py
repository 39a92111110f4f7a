"""The same picture is found however it was saved; another frame is not the same."""

import io
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image

from gscnn_platform.data.formats.streets import Streets
from gscnn_platform.inspection.likeness import SAME, likeness, pairs

IMAGES = [sample.read()[0] for sample in Streets(train=12).samples(None, "train")]


def saved_again(image: np.ndarray, quality: int) -> np.ndarray:
    data = io.BytesIO()
    Image.fromarray(image).save(data, "jpeg", quality=quality)
    return np.asarray(Image.open(data))


def resized(image: np.ndarray, factor: float) -> np.ndarray:
    return np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)


@pytest.mark.parametrize("change", [lambda i: saved_again(i, 60), lambda i: resized(i, 0.5), lambda i: i.copy()])
def test_a_picture_that_was_saved_again_is_the_same(change: Callable[[np.ndarray], np.ndarray]) -> None:
    found = list(pairs([likeness(image) for image in IMAGES], [likeness(change(image)) for image in IMAGES[3:6]]))
    assert [(pair.first, pair.second) for pair in found] == [(3, 0), (4, 1), (5, 2)]
    assert all(pair.difference <= SAME for pair in found)


def test_pairs_are_those_of_a_loop_over_all() -> None:
    shaken = [np.roll(image, 1, 1) for image in IMAGES]
    first, second = [likeness(image) for image in IMAGES], [likeness(image) for image in shaken]
    expected = {}
    for place, other in enumerate(second):
        for index, one in enumerate(first):
            difference = float(np.abs(one.small.astype(float) - other.small).mean())
            if bin(one.bits ^ other.bits).count("1") <= 12 and difference <= min(10, expected.get(place, (0, 10))[1]):
                expected[place] = (index, difference)
    found = {pair.second: (pair.first, pair.difference) for pair in pairs(first, second)}
    assert found == expected
    assert len(found) >= 6


def test_the_bits_are_comparisons_of_neighbouring_cells() -> None:
    ramp = np.repeat(np.linspace(0, 255, 90, dtype=np.uint8)[None], 80, 0)
    brighter = likeness(np.repeat(ramp[..., None], 3, 2))
    assert brighter.bits == (1 << 64) - 1
    assert likeness(np.repeat(ramp[:, ::-1, None], 3, 2)).bits == 0


def test_different_scenes_are_neither_same_nor_alike() -> None:
    assert not list(pairs([likeness(image) for image in IMAGES[:6]], [likeness(image) for image in IMAGES[6:]]))
