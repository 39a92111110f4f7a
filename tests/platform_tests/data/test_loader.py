import shutil
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from gscnn.constants import IMAGE_MEAN, IMAGE_STD
from gscnn.edges import boundary_map
from gscnn_platform.config import ExperimentConfig, with_overrides
from gscnn_platform.data.disk_full import StorageError
from gscnn_platform.data.loader import (
    BYTES_PER_PIXEL,
    WholeImageSampler,
    batches,
    check_shared_memory,
    describe_epoch,
    epoch_order,
    steps_per_epoch,
    whole_images,
)
from gscnn_platform.data.store import Store


def test_an_epoch_holds_every_sample_and_repeats_only_to_fill_its_last_step() -> None:
    order = epoch_order(num_samples=367, batch_size=16, seed=0, epoch=0)
    counts = Counter(order.ravel().tolist())
    assert order.shape == (23, 16)
    assert set(counts) == set(range(367))
    assert sorted(counts.values()) == [1] * 366 + [2]
    assert describe_epoch(367, 16) == "367 samples in 23 steps of 16; the last step repeats 1 of them to be full"
    assert describe_epoch(320, 8) == "320 samples in 40 steps of 8"


def test_a_batch_larger_than_the_split_repeats_samples_evenly() -> None:
    order = epoch_order(num_samples=3, batch_size=8, seed=0, epoch=0)
    assert order.shape == (1, 8)
    assert sorted(Counter(order.ravel().tolist()).values()) == [2, 3, 3]


def test_the_order_differs_between_epochs_and_is_reproducible() -> None:
    first, second = epoch_order(50, 5, 0, 0), epoch_order(50, 5, 0, 1)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, epoch_order(50, 5, 0, 0))
    assert not np.array_equal(first, epoch_order(50, 5, 1, 0))


def run_of(config: ExperimentConfig, **changes: object) -> ExperimentConfig:
    return with_overrides(config, {key.replace("__", "."): value for key, value in changes.items()})


@pytest.mark.parametrize(("workers", "accumulate"), [(1, 1), (2, 1), (1, 2), (2, 2), (3, 1), (1, 3)])
def test_workers_and_accumulated_batches_together_see_what_one_worker_sees(
    tiny_run: ExperimentConfig, streets_store: Store, workers: int, accumulate: int
) -> None:
    reader = streets_store.split("train")
    single = run_of(tiny_run, training__batch_size=8)
    shared = run_of(tiny_run, training__batch_size=8, num_workers=workers, training__accumulate=accumulate)
    step = next(batches(reader, single, rank=0))
    shares = [list(islice(batches(reader, shared, rank, workers), accumulate)) for rank in range(workers)]
    together = torch.cat([shares[rank][part].image for part in range(accumulate) for rank in range(workers)])
    torch.testing.assert_close(together, step.image, rtol=0, atol=0)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_all_workers_take_the_same_number_of_steps(
    tiny_run: ExperimentConfig, streets_store: Store, workers: int
) -> None:
    reader = streets_store.split("train")
    config = run_of(tiny_run, training__batch_size=2 * workers, num_workers=workers)
    lengths = {sum(1 for _ in batches(reader, config, rank, workers)) for rank in range(workers)}
    assert lengths == {config.training.epochs * steps_per_epoch(len(reader), 2 * workers)}


def test_loader_processes_change_nothing(tiny_run: ExperimentConfig, streets_store: Store) -> None:
    reader = streets_store.split("train")
    here = list(batches(reader, tiny_run, rank=0))
    apart = list(batches(reader, run_of(tiny_run, data__loader_processes=2), rank=0))
    assert len(here) == len(apart)
    for one, other in zip(here, apart, strict=True):
        torch.testing.assert_close(one.image, other.image, rtol=0, atol=0)
        torch.testing.assert_close(one.boundary, other.boundary, rtol=0, atol=0)


@pytest.mark.parametrize("first_step", [1, 3, 4])
def test_a_later_start_gives_the_rest_of_the_batches(
    tiny_run: ExperimentConfig, streets_store: Store, first_step: int
) -> None:
    """Three steps of two batches are an epoch here: 1 and 4 lie within one."""
    reader = streets_store.split("train")
    config = run_of(tiny_run, training__batch_size=2, training__accumulate=1)
    whole = list(batches(reader, config))
    rest = list(batches(reader, config, first_step=first_step))
    assert len(whole) == 6
    assert len(rest) == 6 - first_step
    for one, other in zip(whole[first_step:], rest, strict=True):
        torch.testing.assert_close(one.image, other.image, rtol=0, atol=0)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_validation_sees_every_sample_exactly_once(streets_store: Store, workers: int) -> None:
    reader = streets_store.split("val")
    seen = [
        batch.label.numpy()[0].tobytes()
        for rank in range(workers)
        for batch in whole_images(reader, rank=rank, num_workers=workers)
    ]
    assert Counter(seen) == Counter(reader.read(index).label.tobytes() for index in range(len(reader)))


def test_whole_images_of_one_size_share_batches(streets_store: Store) -> None:
    reader = streets_store.split("train")
    reader.sizes[2] = (1, 1)  # Only the sizes decide here; nothing is read.
    batched = [[key.sample for key in batch] for batch in WholeImageSampler(reader.sizes, 4, 0, 1)]
    assert batched == [[0, 1], [2], [3, 4, 5]]


def test_a_batch_holds_the_store_s_values_in_the_model_s_units(streets_store: Store) -> None:
    reader = streets_store.split("val")
    stored, batch = reader.read(0), next(iter(whole_images(reader)))
    expected = (stored.image.astype(np.float64) / 255 - IMAGE_MEAN) / IMAGE_STD
    np.testing.assert_allclose(batch.image[0].permute(1, 2, 0).numpy(), expected, atol=1e-6)
    np.testing.assert_array_equal(batch.label[0].numpy(), stored.label)
    np.testing.assert_allclose(batch.gradient[0, 0].numpy(), stored.gradient / 255)
    np.testing.assert_array_equal(batch.boundary[0, 0].numpy(), stored.boundary)


def test_training_may_draw_wider_boundaries_than_the_store_has(
    tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    reader = streets_store.split("train")
    thin, wide = (next(batches(reader, run_of(tiny_run, data__boundary_radius=radius))) for radius in (1, 4))
    for batch, radius in ((thin, 1), (wide, 4)):
        # Away from the crop's frame, beyond which the derived label sees the rest of the scene.
        inner = (slice(radius, -radius), slice(radius, -radius))
        for label, boundary in zip(batch.label.numpy(), batch.boundary[:, 0].numpy(), strict=True):
            expected = boundary_map(label.astype(np.uint8), radius, 255, False)
            np.testing.assert_array_equal(boundary[inner], expected[inner])
    assert wide.boundary.float().mean() > 2 * thin.boundary.float().mean()


def test_loader_processes_that_do_not_fit_in_shared_memory_are_rejected(
    tiny_run: ExperimentConfig, streets_store: Store, tmp_path: Path
) -> None:
    batch = next(batches(streets_store.split("train"), tiny_run))
    images, height, width = len(batch.image), *batch.image.shape[2:]
    held = sum(tensor.nbytes for tensor in (batch.image, batch.label, batch.gradient, batch.boundary))
    assert held == images * height * width * BYTES_PER_PIXEL
    free = shutil.disk_usage(tmp_path).free
    most = free // (4 * held)  # Each process has four batches ready.
    check_shared_memory(int(most * 0.9), images, (height, width), tmp_path)
    with pytest.raises(
        StorageError, match=r"free, and --data\.loader-processes \d+ needs .*: use fewer \(0 needs none\)"
    ):
        check_shared_memory(int(most * 1.1) + 1, images, (height, width), tmp_path)
    check_shared_memory(0, images, (height, width), tmp_path / "missing")
    with pytest.raises(StorageError, match=r"has 0\.0 MB free"):
        check_shared_memory(1, images, (height, width), tmp_path / "missing")


def test_a_sample_repeated_in_the_last_batch_is_augmented_differently(
    tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    """Six samples in batches of 16: the step has each of them two or three times, and no crop twice."""
    reader = streets_store.split("train")
    step = next(batches(reader, run_of(tiny_run, training__batch_size=16)))
    assert len({image.numpy().tobytes() for image in step.image}) == 16
    first = next(batches(reader, run_of(tiny_run, training__batch_size=6)))
    torch.testing.assert_close(step.image[:6], first.image, rtol=0, atol=0)
