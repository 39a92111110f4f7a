from collections import Counter
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import Sampler

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.config import DataConfig, ExperimentConfig, with_overrides
from gscnn_platform.data.class_uniform import MOST_ANCHORS, anchors_of, draw
from gscnn_platform.data.held_out import training_samples
from gscnn_platform.data.loader import ANYWHERE, EpochSampler, Key, batches, epoch_order, epoch_plan
from gscnn_platform.data.store import Store


@pytest.mark.parametrize("seed", range(4))
def test_anchors_are_the_evenly_ranked_pixels_of_a_pixel_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    label = rng.choice([0, 1, 2, IGNORE_INDEX], (23, 31), p=[0.5, 0.4, 0.05, 0.05]).astype(np.uint8)
    label[7, 20], label[3:5, 4] = 9, 254
    pixels: dict[int, list[tuple[int, int]]] = {}
    for row in range(label.shape[0]):
        for column in range(label.shape[1]):
            pixels.setdefault(int(label[row, column]), []).append((row, column))
    del pixels[IGNORE_INDEX]
    expected = []
    for train_id, of_class in sorted(pixels.items()):
        count = min(10, len(of_class))
        # The middle of each of `count` stretches of equal length.
        middles = [int((number + 0.5) * len(of_class) / count) for number in range(count)]
        expected += [(train_id, *of_class[middle]) for middle in middles]
    assert anchors_of(label).tolist() == [list(anchor) for anchor in expected]
    assert Counter(anchors_of(label)[:, 0].tolist()) == {0: 10, 1: 10, 2: 10, 9: 1, 254: 2}


def test_a_label_that_is_all_void_has_no_anchors() -> None:
    anchors = anchors_of(np.full((5, 7), IGNORE_INDEX, np.uint8))
    assert anchors.shape == (0, 3)
    assert anchors.dtype == np.int32


def test_classes_are_drawn_equally_often_and_their_samples_uniformly() -> None:
    having = {3: np.array([7]), 5: np.arange(20), 8: np.array([1, 4, 9, 16])}
    of_class: dict[int, Counter[int]] = {train_id: Counter() for train_id in having}
    first_of_one_more: Counter[int] = Counter()
    for epoch in range(200):
        places, samples, classes = draw(having, 0.5, 101, np.random.default_rng(epoch))
        assert len(places) == len(set(places.tolist())) == 50
        counts = Counter(classes.tolist())
        assert sorted(counts.values()) == [16, 17, 17]
        first_of_one_more[min(counts, key=lambda train_id: counts[train_id])] += 1
        for train_id, sample in zip(classes.tolist(), samples.tolist(), strict=True):
            of_class[train_id][sample] += 1
    assert min(first_of_one_more.values()) > 40, "67 each: no class is favoured where they do not divide evenly"
    for train_id, samples in having.items():
        assert set(of_class[train_id]) == set(samples.tolist())
        expected = of_class[train_id].total() / len(samples)
        deviations = sum((count - expected) ** 2 / expected for count in of_class[train_id].values())
        # Chi-square: its mean is the degrees of freedom, its variance twice that.
        freedom = len(samples) - 1
        assert deviations <= freedom + 4 * np.sqrt(2 * freedom)


def test_places_are_drawn_uniformly() -> None:
    having = {0: np.array([0])}
    counts = Counter(
        place for epoch in range(400) for place in draw(having, 0.25, 40, np.random.default_rng(epoch))[0].tolist()
    )
    assert counts.total() == 400 * 10
    assert 60 < min(counts.values()) <= max(counts.values()) < 140  # 100 each, with a standard deviation of 9.


def test_a_split_without_any_class_is_trained_on_as_shuffled() -> None:
    assert [len(array) for array in draw({}, 1.0, 10, np.random.default_rng(0))] == [0, 0, 0]


def uniform(config: ExperimentConfig, share: float, **changes: object) -> ExperimentConfig:
    named = {key.replace("__", "."): value for key, value in changes.items()}
    return with_overrides(config, {"data.class_uniform": share, "augmentation.crop": (32, 32), **named})


def keys(sampler: Sampler[list[Key]]) -> Iterator[Key]:
    for batch in sampler:
        yield from batch


def test_without_a_share_keys_are_those_of_the_shuffled_samples(
    tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    config = uniform(tiny_run, 0.0, training__batch_size=8)
    found = list(keys(EpochSampler(config, streets_store.split("train"), 0, 1, 0)))
    order = [epoch_order(6, 8, config.seed, epoch).ravel().tolist() for epoch in range(2)]
    seeds = [(config.seed, epoch, index) for epoch in range(2) for index in order[epoch]]
    expected = [(*seed, 1) if number % 8 >= 6 else seed for number, seed in enumerate(seeds)]
    assert [key.seed for key in found] == expected
    assert [key.sample for key in found] == [seed[2] for seed in seeds]
    assert {key.around for key in found} == {ANYWHERE}


def test_a_share_of_the_places_is_drawn_by_class_and_the_others_stay_as_they_are(
    tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    reader = streets_store.split("train")
    plain, half = (
        list(keys(EpochSampler(uniform(tiny_run, share, training__batch_size=15), reader, 0, 1, 0)))
        for share in (0.0, 0.4)
    )
    assert len(plain) == len(half) == 30
    drawn = [key for key in half if key.around != ANYWHERE]
    assert len(drawn) == 12
    assert all(key in (other, key) for key, other in zip(half, plain, strict=True) if key.around == ANYWHERE)
    assert sum(key == other for key, other in zip(half, plain, strict=True)) == 18
    assert all(key.around in reader.read(key.sample).label for key in drawn)
    # As numpy reads seeds, zeros at the end do not count.
    seeds = [tuple(np.trim_zeros(key.seed, "b")) for key in half]
    assert len(set(seeds)) == 30


def test_every_crop_that_is_drawn_by_class_contains_it(tiny_run: ExperimentConfig, streets_store: Store) -> None:
    reader = streets_store.split("train")
    config = uniform(tiny_run, 1.0, training__batch_size=32, training__epochs=3, augmentation__scale=(1.0, 2.0))
    labels = [label for batch in batches(reader, config) for label in batch.label]
    planned = [train_id for epoch in range(3) for train_id in epoch_plan(reader, config, epoch)[1].ravel().tolist()]
    assert len(labels) == len(planned) == 96
    assert all((label == train_id).any() for label, train_id in zip(labels, planned, strict=True))
    assert set(planned) == set(reader.having)


@pytest.mark.parametrize(("workers", "processes"), [(1, 2), (2, 0), (3, 0)])
def test_workers_and_loader_processes_change_nothing(
    tiny_run: ExperimentConfig, streets_store: Store, workers: int, processes: int
) -> None:
    reader = streets_store.split("train")
    single = uniform(tiny_run, 0.5, training__batch_size=8)
    shared = with_overrides(single, {"data.loader_processes": processes, "num_workers": workers})
    steps = [batch.image for batch in batches(reader, single)]
    of_ranks = [[batch.image for batch in batches(reader, shared, rank, workers)] for rank in range(workers)]
    assert len(steps) == 2
    for number, step in enumerate(steps):
        together = torch.cat([images[number] for images in of_ranks])
        torch.testing.assert_close(together, step, rtol=0, atol=0)


@pytest.mark.parametrize("first_step", [1, 3, 4])
def test_a_later_start_gives_the_rest_of_the_batches(
    tiny_run: ExperimentConfig, streets_store: Store, first_step: int
) -> None:
    reader = streets_store.split("train")
    config = uniform(tiny_run, 0.5, training__batch_size=2)
    rest = batches(reader, config, first_step=first_step)
    for one, other in zip(islice(batches(reader, config), first_step, None), rest, strict=True):
        torch.testing.assert_close(one.image, other.image, rtol=0, atol=0)
        torch.testing.assert_close(one.label, other.label, rtol=0, atol=0)


def test_the_plan_differs_by_seed_and_epoch(tiny_run: ExperimentConfig, streets_store: Store) -> None:
    reader = streets_store.split("train")
    config = uniform(tiny_run, 0.5, training__batch_size=32)
    plans = {
        (seed, epoch): epoch_plan(reader, with_overrides(config, {"seed": seed}), epoch)[1].tobytes()
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len(set(plans.values())) == 4
    assert plans[0, 1] == epoch_plan(streets_store.split("train"), config, 1)[1].tobytes()


def test_held_out_samples_are_not_drawn_and_their_classes_do_not_count(
    tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    whole = streets_store.split("train")
    assert whole.having  # Read before the share is taken, which must not keep it.
    reader = training_samples(streets_store, DataConfig(val_share=0.4))
    config = uniform(tiny_run, 1.0, training__batch_size=64)
    samples, around = epoch_plan(reader, config, 0)
    assert set(samples.ravel().tolist()) == {0, 1, 2, 3}
    assert all(
        train_id in reader.read(index).label
        for index, train_id in zip(samples.ravel().tolist(), around.ravel().tolist(), strict=True)
    )


def test_a_sample_has_few_anchors_of_each_class(streets_store: Store) -> None:
    reader = streets_store.split("train")
    for index in range(len(reader)):
        sample = reader.read(index, anchors=True)
        assert sample.anchors is not None
        counts = Counter(sample.anchors[:, 0].tolist())
        pixels = Counter(sample.label.ravel().tolist())
        assert counts == {train_id: min(MOST_ANCHORS, pixels[train_id]) for train_id in pixels if train_id != 255}
        for train_id, row, column in sample.anchors.tolist():
            assert sample.label[row, column] == train_id
