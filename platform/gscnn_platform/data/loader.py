"""Reads a store as SegBatches, for one training worker.

The order of an epoch, and which of its crops lie around which class, are pure functions of seed and epoch. A sample's
augmentation is a pure function of seed, epoch, sample and its number of earlier occurrences in the epoch; that of a
sample drawn by class, of seed, epoch, sample, class and place in the epoch. So a run is reproducible with any number of
loader processes, and every worker knows its share without communication.
"""

import shutil
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from gscnn.batch import SegBatch, normalize
from gscnn_platform.config import ExperimentConfig
from gscnn_platform.data.class_uniform import draw
from gscnn_platform.data.disk_full import StorageError, readable
from gscnn_platform.data.store import SampleArrays, SplitReader

if TYPE_CHECKING:
    from gscnn_platform.data.transforms import TrainTransform

ANYWHERE: Final = -1
"""Stands for no class: the crop lies anywhere."""
PREFETCHED: Final = 4
"""Batches that each loader process prepares in advance."""
BYTES_PER_PIXEL: Final = 3 * 4 + 1 + 4 + 1
"""Bytes per pixel of a SegBatch: image and gradient as floats, label and boundary as bytes."""
SHARED_MEMORY: Final = Path("/dev/shm")
MOST_EPOCHS: Final = 10_000
"""Epochs that `crops_of` searches; with `data.class_uniform` an epoch may have no crop of a sample."""


class Key(NamedTuple):
    """What the loader asks for: a sample as it is stored or, for training, a crop of it."""

    sample: int
    """Its index."""
    seed: tuple[int, ...] = ()
    """Of the augmentation."""
    around: int = ANYWHERE
    """Class of which the crop has an anchor."""


def steps_per_epoch(num_samples: int, batch_size: int) -> int:
    """Optimizer steps of one epoch; a last partial batch counts as a step."""
    return -(-num_samples // batch_size)


def epoch_order(num_samples: int, batch_size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Sample indices of an epoch, [steps, batch_size]: all samples, shuffled.

    The last batch is filled up with the first samples of the same order. So no sample is dropped, all steps have the
    same size, and all workers take the same number of steps.
    """
    steps = steps_per_epoch(num_samples, batch_size)
    order = np.random.default_rng((seed, epoch)).permutation(num_samples)
    return np.resize(order, steps * batch_size).reshape(steps, batch_size)


def epoch_plan(
    reader: SplitReader, config: ExperimentConfig, epoch: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sample of each place of an epoch, and the class around which its crop lies or ANYWHERE: each [steps, batch_size].

    `epoch_order`, with `data.class_uniform` of the places given to classes instead (gscnn_platform.data.class_uniform).

    Raises:
        StoreError: the anchors cannot be read.
    """
    samples = epoch_order(len(reader), config.training.batch_size, config.seed, epoch)
    around = np.full_like(samples, ANYWHERE)
    if config.data.class_uniform:
        # Five numbers, as no seed of a shuffled sample's crop has.
        rng = np.random.default_rng((config.seed, epoch, 0, 0, 1))
        places, by_class, classes = draw(reader.having, config.data.class_uniform, samples.size, rng)
        samples.flat[places], around.flat[places] = by_class, classes
    return samples, around


def shares(step: NDArray[np.int64], accumulate: int, world_size: int) -> list[list[NDArray[np.int64]]]:
    """The samples of a step by accumulated batch and rank, as evenly as their number allows."""
    return [np.array_split(batch, world_size) for batch in np.array_split(step, accumulate)]


def describe_epoch(num_samples: int, batch_size: int) -> str:
    """A description of an epoch, for users."""
    steps = steps_per_epoch(num_samples, batch_size)
    repeated = steps * batch_size - num_samples
    last = f"; the last step repeats {repeated} of them to be full" if repeated else ""
    return f"{num_samples} samples in {steps} steps of {batch_size}{last}"


def fixed_samples(num_samples: int, count: int) -> list[int]:
    """Up to `count` indices, spread evenly over a split and the same in every epoch."""
    count = min(count, num_samples)
    return [(2 * number + 1) * num_samples // (2 * count) for number in range(count)]


class EpochSampler(Sampler[list[Key]]):
    """Yields one worker's share of `epoch_plan`, batch by batch, from `first_step` to the last step of the run."""

    def __init__(
        self, config: ExperimentConfig, reader: SplitReader, rank: int, world_size: int, first_step: int
    ) -> None:
        self.config, self.reader, self.first_step = config, reader, first_step
        self.rank, self.world_size = rank, world_size

    def __iter__(self) -> Iterator[list[Key]]:
        training = self.config.training
        steps = steps_per_epoch(len(self.reader), training.batch_size)
        first_epoch, done = divmod(self.first_step, steps)
        places = np.arange(steps * training.batch_size).reshape(steps, training.batch_size)
        for epoch in range(first_epoch, training.epochs):
            samples, around = (of_place.ravel().tolist() for of_place in epoch_plan(self.reader, self.config, epoch))
            for step in places[done if epoch == first_epoch else 0 :]:
                for batch in shares(step, training.accumulate, self.world_size):
                    mine = batch[self.rank].tolist()
                    yield [self._key(epoch, place, samples[place], around[place]) for place in mine]

    def _key(self, epoch: int, place: int, index: int, around: int) -> Key:
        seed, repetition = (self.config.seed, epoch, index), place // len(self.reader)
        if around != ANYWHERE:
            return Key(index, (*seed, place, 2 + around), around)
        return Key(index, (*seed, repetition) if repetition else seed)


class WholeImageSampler(Sampler[list[Key]]):
    """Yields each sample of one worker's share once, in batches of images of the same size."""

    def __init__(self, sizes: Sequence[tuple[int, int]], batch_size: int, rank: int, num_workers: int) -> None:
        self.sizes, self.batch_size, self.mine = sizes, batch_size, range(rank, len(sizes), num_workers)

    def __iter__(self) -> Iterator[list[Key]]:
        batch: list[Key] = []
        for index in self.mine:
            if batch and (len(batch) == self.batch_size or self.sizes[index] != self.sizes[batch[0].sample]):
                yield batch
                batch = []
            batch.append(Key(index))
        if batch:
            yield batch


class _StoreDataset(Dataset[SampleArrays]):
    def __init__(self, reader: SplitReader, transform: "TrainTransform | None") -> None:
        self.reader, self.transform = reader, transform

    def __getitem__(self, key: Key) -> SampleArrays:
        if self.transform is None:
            return self.reader.read(key.sample)
        if key.around == ANYWHERE:
            return self.transform(self.reader.read(key.sample, boundary=False), key.seed)
        return self.transform(self.reader.read(key.sample, boundary=False, anchors=True), key.seed, key.around)


def to_batch(samples: Sequence[SampleArrays]) -> SegBatch:
    """Stacks samples of the same size into a batch on the CPU."""
    boundaries = [sample.boundary for sample in samples if sample.boundary is not None]
    assert len(boundaries) == len(samples)
    return SegBatch(
        image=normalize(_stack([sample.image for sample in samples]).permute(0, 3, 1, 2)),
        label=_stack([sample.label for sample in samples]),
        gradient=_stack([sample.gradient for sample in samples])[:, None].float() / 255,
        boundary=_stack(boundaries)[:, None],
    )


def batches(
    reader: SplitReader,
    config: ExperimentConfig,
    rank: int = 0,
    world_size: int = 1,
    first_step: int = 0,
    pin_memory: bool = False,
) -> Iterator[SegBatch]:
    """Augmented training batches of worker `rank` from `first_step` on, without a pause between epochs.

    Each step has `training.accumulate` batches of `training.batch_size / (world_size * accumulate)` images, rounded up
    or down if that is not a whole number.

    Raises:
        StoreError: the anchors cannot be read, which `data.class_uniform` needs.
        StorageError: /dev/shm is too small for the batches of the loader processes.
    """
    images = config.images_per_batch + 1
    check_shared_memory(config.data.loader_processes, images, config.augmentation.crop)
    from gscnn_platform.data.transforms import TrainTransform  # albumentations: 2 s of CPU time, only for training

    transform = TrainTransform(config.augmentation, config.data.training_edges)
    sampler = EpochSampler(config, reader, rank, world_size, first_step)
    return iter(_loader(_StoreDataset(reader, transform), sampler, config.data.loader_processes, pin_memory))


def crops_of(reader: SplitReader, config: ExperimentConfig, index: int, count: int) -> SegBatch:
    """The first `count` training crops of a sample, in the order in which a run takes them, over as many epochs as that
    needs: those of `batches`, bit for bit.

    Raises:
        StoreError: the sample or the anchors cannot be read.
    """
    from gscnn_platform.data.transforms import TrainTransform

    long = config.training.model_copy(update={"epochs": MOST_EPOCHS})
    steps = EpochSampler(config.model_copy(update={"training": long}), reader, rank=0, world_size=1, first_step=0)
    dataset = _StoreDataset(reader, TrainTransform(config.augmentation, config.data.training_edges))
    keys = (key for batch in steps for key in batch if key.sample == index)
    return to_batch([dataset[key] for key in islice(keys, count)])


def check_shared_memory(processes: int, images: int, crop: tuple[int, int], folder: Path = SHARED_MEMORY) -> None:
    """Checks that the batches of the loader processes fit into /dev/shm: a full one kills them without a message.

    Args:
        processes: number of loader processes; 0 needs no shared memory.
        images: number of images per batch.
        crop: height and width in pixels.
        folder: folder of the shared memory.

    Raises:
        StorageError: it is too small; the message names the free and the needed space and the settings that help.
    """
    needed = processes * PREFETCHED * images * crop[0] * crop[1] * BYTES_PER_PIXEL
    free = shutil.disk_usage(folder).free if folder.is_dir() else 0
    if needed > free:
        raise StorageError(
            f"{folder} has {readable(free)} free, and --data.loader-processes {processes} needs {readable(needed)}: "
            "use fewer (0 needs none), or give the container more (docker run --shm-size 8g)"
        )


def whole_images(
    reader: SplitReader,
    batch_size: int = 1,
    rank: int = 0,
    num_workers: int = 1,
    loader_processes: int = 0,
    pin_memory: bool = False,
    progress: str | None = None,
) -> Iterator[SegBatch]:
    """Whole images as stored, each sample exactly once over all workers; with a progress bar if `progress` names it."""
    sampler = WholeImageSampler(reader.sizes, batch_size, rank, num_workers)
    loader = _loader(_StoreDataset(reader, None), sampler, loader_processes, pin_memory)
    with tqdm(total=len(sampler.mine), desc=progress, unit=" images", disable=progress is None) as bar:
        for batch in loader:
            yield batch
            bar.update(len(batch))


def _loader(
    dataset: _StoreDataset, sampler: Sampler[list[Key]], processes: int, pin_memory: bool
) -> DataLoader[SegBatch]:
    return DataLoader[Any](
        dataset,
        batch_sampler=sampler,
        num_workers=processes,
        collate_fn=to_batch,
        pin_memory=pin_memory,
        prefetch_factor=PREFETCHED if processes else None,
        worker_init_fn=_single_threaded,
        # A forked process would have copies of Arrow's network clients without their threads.
        multiprocessing_context="forkserver" if processes and dataset.reader.is_remote else None,
    )


def _single_threaded(_: int) -> None:
    # The processes share the cores already, and OpenCV's own threads made them slower.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _stack(arrays: Sequence[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(arrays))
