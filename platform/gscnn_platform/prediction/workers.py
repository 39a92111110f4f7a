"""Runs the model over images and frames: with Ray on all nodes, or in this process if a single worker on this machine
is enough."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import torch

from gscnn_platform import cluster, machine
from gscnn_platform.config import PredictConfig
from gscnn_platform.paths import AnyPath
from gscnn_platform.prediction.predictor import CHUNK, PredictedFrame, Predictor
from gscnn_platform.runs.loading import LoadedModel

CORES: Final = 4
"""Default number of CPU cores for each copy of the model if there are no GPUs."""
AHEAD: Final = 3
"""Frames of a video in memory for each worker: one is predicted, one waits, one is encoded."""

Item = TypeVar("Item")
Result = TypeVar("Result")
Submit = Callable[[np.ndarray], "Future[PredictedFrame]"]


class FramePredictor(NamedTuple):
    """Predicts frames of videos in the background."""

    submit: Submit
    ahead: int
    """Frames that may be in progress."""


def threads_here(config: PredictConfig, units: int) -> int | None:
    """The number of torch threads if this process predicts by itself; None if Ray's workers do.

    Ray's processes and a worker that imports torch again cost about 20 CPU seconds, without a benefit if there is no
    cluster to join and one worker does all the work.

    Args:
        config: the resources that the user asked for.
        units: number of images and frames.
    """
    cores, gpus = machine.cores(), torch.cuda.device_count() if config.use_gpu is not False else 0
    workers = config.num_workers or gpus or max(1, cores // CORES)
    threads = config.cpus_per_worker or cores
    # If this machine lacks something, `cluster.workers_for` raises the same error as in every job.
    has_it_all = threads <= cores and (gpus > 0 or not config.use_gpu)
    return threads if min(workers, units) == 1 and has_it_all and cluster.would_start() else None


class ModelHere:
    """The model in this process.

    Args:
        config: inference, precision, the kinds of pictures, and whether to use a GPU.
        loaded: the model.
        out: the output folder.
        threads: number of torch threads.
    """

    def __init__(self, config: PredictConfig, loaded: LoadedModel, out: AnyPath, threads: int) -> None:
        self._predictor = Predictor(loaded, config, str(out), threads)

    def images(self, files: Mapping[str, AnyPath]) -> Iterator[dict[str, Any]]:
        """Predicts images; yields one row per file."""
        names = list(files)
        for start in range(0, len(names), CHUNK):
            chunk = names[start : start + CHUNK]
            batch = {"name": np.array(chunk), "file": np.array([str(files[name]) for name in chunk])}
            columns = self._predictor(batch)
            yield from (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))

    @contextmanager
    def frames(self) -> Iterator[FramePredictor]:
        """Predicts frames in a thread, while this one decodes and encodes."""
        with ThreadPoolExecutor(1) as pool:
            try:
                yield FramePredictor(lambda image: pool.submit(self._predictor.frame, image), AHEAD)
            finally:
                pool.shutdown(cancel_futures=True)


class ModelOnRay:
    """Copies of the model in Ray's workers; connects to Ray.

    Args:
        config: as for ModelHere, and the resources.
        loaded: the model.
        out: the output folder, one that all nodes can reach.
        units: number of images and frames.

    Raises:
        ClusterError: there is no cluster to run on.
        ResourcesError: the cluster is too small, and the prediction does not wait for nodes.
    """

    def __init__(self, config: PredictConfig, loaded: LoadedModel, out: AnyPath, units: int) -> None:
        import ray

        cluster.connect(dashboard=False)
        self._workers = cluster.workers_for(config, config.num_workers, most=units, cores=CORES)
        cluster.wait_for_nodes(self._workers, needed=1)  # Others start when their nodes join.
        # In a tuple, because Ray warns of constructor arguments that are references themselves.
        self._arguments = ((ray.put(loaded),), config, str(out), self._workers.cpus)

    def images(self, files: Mapping[str, AnyPath]) -> Iterable[dict[str, Any]]:
        """Predicts images; yields one row per file."""
        import ray.data

        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False
        return (
            ray.data.from_items(
                [{"name": name, "file": str(file)} for name, file in files.items()],
                override_num_blocks=-(-len(files) // CHUNK),
            )
            .map_batches(
                Predictor,
                fn_constructor_args=self._arguments,
                batch_size=CHUNK,
                num_cpus=self._workers.cpus,
                num_gpus=self._workers.gpus,
                compute=ray.data.ActorPoolStrategy(size=min(self._workers.number, len(files))),
            )
            .iter_rows()
        )

    @contextmanager
    def frames(self) -> Iterator[FramePredictor]:
        """Predicts frames with the workers in turn; this process decodes and encodes."""
        import ray

        actor: Any = ray.remote(num_cpus=self._workers.cpus, num_gpus=self._workers.gpus)(Predictor)
        actors = [actor.remote(*self._arguments) for _ in range(self._workers.number)]
        turn = cycle(actors)
        try:
            yield FramePredictor(lambda image: next(turn).frame.remote(image).future(), AHEAD * len(actors))
        finally:
            for each in actors:
                ray.kill(each)


Model = ModelHere | ModelOnRay


def in_order(
    items: Iterable[Item], submit: Callable[[Item], "Future[Result] | None"], ahead: int
) -> Iterator[tuple[Item, Result | None]]:
    """Yields each item with its result in the order of the items, whichever is ready first.

    At most `ahead` items are in progress or wait to be yielded, so memory does not grow with their number.

    Args:
        items: read one by one, when there is room.
        submit: starts the work on an item; None if there is no work, and the result is None.
        ahead: 1 or more.
    """
    running: deque[tuple[Item, Future[Result] | None]] = deque()
    for item in items:
        if len(running) >= ahead:
            yield _finished(*running.popleft())
        running.append((item, submit(item)))
    yield from (_finished(*each) for each in running)


def _finished(item: Item, future: "Future[Result] | None") -> tuple[Item, Result | None]:
    return item, None if future is None else future.result()
