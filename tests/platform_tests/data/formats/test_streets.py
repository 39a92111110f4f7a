import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats import DatasetError, remap
from gscnn_platform.data.formats.streets import CLASSES, Streets, _reduce_label
from gscnn_platform.data.streets.stage import BUILDING, SKY, WIRE


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    """uint8 [60, 128, 192]: the first scenes of train."""
    return np.stack([sample.read()[1] for sample in Streets().samples(None, "train")[:60]])


def test_each_split_has_as_many_scenes_as_asked_for_sorted_by_name() -> None:
    streets = Streets(train=12, val=3, test=2)
    assert [len(streets.samples(None, split)) for split in streets.describe().splits] == [12, 3, 2]
    names = [sample.name for sample in streets.samples(None, "train")]
    assert names == sorted(set(names))


def test_streets_need_no_root_and_reject_unknown_splits() -> None:
    assert Streets.needs_root is False
    assert Streets().describe(None) == Streets().describe(Path("/nowhere"))
    with pytest.raises(DatasetError, match="split: 'dev' does not exist in streets; the splits are train, val, test"):
        Streets().samples(None, "dev")


@pytest.mark.parametrize("field", ["height", "width", "train"])
def test_settings_out_of_range_are_rejected(field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        Streets.model_validate({field: 0})


def test_equal_settings_give_equal_bytes() -> None:
    first, again = (Streets().samples(None, "train")[7].read() for _ in range(2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])


def test_scenes_differ_between_indices_splits_and_seeds() -> None:
    samples = [
        Streets().samples(None, "train")[0],
        Streets().samples(None, "train")[1],
        Streets().samples(None, "val")[0],
        Streets(seed=1).samples(None, "train")[0],
    ]
    assert len({hashlib.sha256(sample.read()[0].tobytes()).hexdigest() for sample in samples}) == 4
    assert len({sample.digest() for sample in samples}) == 4


def test_digest_does_not_depend_on_how_many_scenes_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Streets(train=5).samples(None, "train")[4].digest()
    assert Streets(train=9).samples(None, "train")[4].digest() == first
    assert Streets(width=200).samples(None, "train")[4].digest() != first
    monkeypatch.setattr("gscnn_platform.data.formats.streets.SCENE_VERSION", 10_000)
    assert Streets(train=5).samples(None, "train")[4].digest() != first


@pytest.mark.parametrize(("height", "width"), [(64, 64), (128, 192), (100, 77), (64, 300), (512, 1024)])
def test_any_frame_size_gives_an_image_and_a_label_of_that_size(height: int, width: int) -> None:
    image, label = Streets(height=height, width=width).samples(None, "test")[0].read()
    assert image.shape == (height, width, 3) and image.dtype == np.uint8
    assert label.shape == (height, width) and label.dtype == np.uint8
    assert remap(label, Streets().describe().label_table).shape == (height, width)
    assert np.unique(label).size >= 6


def test_every_class_is_frequent_enough_to_be_learnt(labels: np.ndarray) -> None:
    for train_id, name in enumerate(CLASSES):
        mask = labels == train_id
        assert mask.mean() > 0.005, name
        assert mask.any(axis=(1, 2)).mean() > 0.5, name


def test_void_is_present_and_rare(labels: np.ndarray) -> None:
    assert 0.005 < (labels == IGNORE_INDEX).mean() < 0.1


def test_wires_are_thin_and_grow_with_the_frame() -> None:
    def thickness(height: int) -> float:
        """Median over frames of twice the largest distance from a wire pixel to its edge."""
        streets = Streets(height=height, width=height * 3 // 2, seed=3)
        masks = [(sample.read()[1] == WIRE).astype(np.uint8) for sample in streets.samples(None, "train")[:8]]
        deep = [cv2.distanceTransform(mask, cv2.DIST_L2, 5)[mask > 0] for mask in masks]
        return 2 * float(np.median(np.concatenate(deep)))

    small, large = thickness(128), thickness(512)
    assert small <= 3
    assert 1.5 * small < large <= 12


def test_thin_things_keep_their_pixel_from_forty_per_cent_on() -> None:
    drawn = np.full((10, 20), BUILDING, np.uint8)
    drawn[:4, :10] = WIRE  # 40% of the left pixel, and 30% of the right one.
    drawn[:3, 10:] = WIRE
    np.testing.assert_array_equal(_reduce_label(drawn, 1, 2), [[WIRE, BUILDING]])


def test_the_label_takes_the_class_that_covers_most_of_a_pixel() -> None:
    drawn = np.full((3, 6), SKY, np.uint8)
    drawn[:2, :3] = BUILDING
    drawn[2:, 3:] = IGNORE_INDEX
    np.testing.assert_array_equal(_reduce_label(drawn, 1, 2), [[BUILDING, SKY]])


def test_image_and_label_are_aligned() -> None:
    """Image edges are stronger on the label's boundaries than on the same boundaries moved by some pixels."""
    at, beside = [], []
    for sample in Streets().samples(None, "val")[:12]:
        image, label = sample.read()
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(float)
        edge = np.abs(np.diff(grey, axis=1))
        boundary = np.diff(label.astype(int), axis=1) != 0
        at.append(edge[boundary].mean())
        beside += [edge[np.roll(boundary, shift, axis=1)].mean() for shift in (-6, 6)]
    assert np.mean(at) > 1.5 * np.mean(beside)


def test_many_strong_edges_are_not_boundaries_and_some_boundaries_are_weak() -> None:
    strong_inside, weak_boundary = [], []
    for sample in Streets().samples(None, "val")[:12]:
        image, label = sample.read()
        step = np.abs(np.diff(image.astype(int), axis=1)).max(axis=-1)
        boundary = np.diff(label.astype(int), axis=1) != 0
        near = cv2.dilate(boundary.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        strong_inside.append((step[~near] > 40).sum() / (step > 40).sum())
        weak_boundary.append((step[boundary] < 15).mean())
    assert np.mean(strong_inside) > 0.15
    assert np.mean(weak_boundary) > 0.1
