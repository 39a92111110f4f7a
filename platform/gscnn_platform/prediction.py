"""Predicts label, colour, edge and overlay pictures for unlabelled images: with Ray Data on all nodes, or in this
process if a single worker on this machine is enough."""

import logging
import resource
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from tqdm import tqdm

from gscnn.architectures import ARCHITECTURES
from gscnn.batch import normalize
from gscnn.inference import infer
from gscnn_platform import cluster, machine, tracking
from gscnn_platform.config import PredictConfig
from gscnn_platform.data.formats.decoding import BadSampleError, read_image
from gscnn_platform.data.images import edge_prior, find_images
from gscnn_platform.evaluation import autocast
from gscnn_platform.interrupts import from_now_on, leaving_nothing_behind
from gscnn_platform.label_pictures import colourise, overlay
from gscnn_platform.paths import AnyPath, as_path, write_whole
from gscnn_platform.prediction_record import (
    PredictionRecord,
    PredictionSettings,
    changed,
    pictures_in,
    read_record,
)
from gscnn_platform.remote_errors import patiently
from gscnn_platform.runs.loading import LoadedModel

KINDS: Final = ("label", "colour", "edge", "overlay")
"""Folders below the output folder, each with a PNG per image; no `edge` if the model has no shape stream."""
CHUNK: Final = 8
"""Images that a worker takes at a time: while the model processes one, threads read and write others."""
CORES: Final = 4
"""Default number of CPU cores for each copy of the model if there are no GPUs."""
SHOWN: Final = 20


class PredictError(ValueError):
    """Pictures exist already, no file could be read, or the output folder cannot be written."""


@dataclass(frozen=True)
class PredictResult:
    out: AnyPath
    predicted: int
    unreadable: dict[str, str]
    """File -> reason."""
    in_output: int
    """Images left out because they are below the output folder."""
    resumed: int
    """Images that an interrupted prediction with the same settings had already predicted."""
    seconds_per_image: float | None
    """Median over the images, for one worker; None if there was nothing left to predict."""
    peak_gib: float | None
    """Largest resident memory of a worker."""


def predict(config: PredictConfig) -> PredictResult:
    """Predicts every image; a file that cannot be read is reported and does not stop the rest.

    The same config resumes an interrupted prediction: images that have all of their pictures are skipped.

    Raises:
        InputError: there is no input outside the output folder, or inputs would share an output.
        PredictError: pictures exist already, the interrupted prediction has other settings, no file could be read, or
            the output folder cannot be written.
        CheckpointError, TrackingError: no such checkpoint or run.
        ClusterError: there is no cluster to run on.
        ResourcesError: the cluster is too small, and the prediction does not wait for nodes.
    """
    out = as_path(cluster.resolve(config.out, "--out"))
    found = find_images([cluster.resolve(text, "--input") for text in config.input], "--input", out)
    there = pictures_in(out, KINDS)
    mine = [picture for name in found.files for kind in KINDS if (picture := f"{kind}/{name}.png") in there]
    record = read_record(out) if mine and not config.overwrite else None
    if mine and not config.overwrite and (record is None or record.state == "finished"):
        raise PredictError(
            f"{len(mine)} pictures exist already, such as {out / mine[0]}: add --overwrite, or choose another --out"
        )
    cluster.check_can_write(str(out), "--out")
    threads = _threads_here(config, len(found.files))
    if threads is None:
        cluster.check_can_connect()
    loaded = tracking.find_model(config.checkpoint, tracking.tracking_uri(config.tracking, cluster.default_storage()))
    settings = PredictionSettings.of(config, loaded)
    if record is not None and record.settings != settings:
        raise PredictError(
            f"{out} holds an interrupted prediction, and {changed(record.settings, settings)}: pass the same settings "
            "to resume it, add --overwrite, or choose another --out"
        )
    kinds = kinds_of(loaded)
    done = (
        {}
        if record is None
        else {name: file for name, file in found.files.items() if there >= {f"{kind}/{name}.png" for kind in kinds}}
    )
    left = {name: file for name, file in found.files.items() if name not in done}
    workers = _workers(config, len(left)) if left and threads is None else None
    with leaving_nothing_behind(f"the pictures in {out} are complete; rerun the command to predict the others"):
        PredictionRecord(state="running", checkpoint=config.checkpoint, settings=settings).write(out)
        for picture in mine if config.overwrite else ():
            (out / picture).unlink(missing_ok=True)  # After an interruption, existing pictures would count as done.
        predicted: Iterable[dict[str, Any]] = ()
        if workers is not None:
            predicted = _predicted_by(workers, config, loaded, left, out)
        elif left and threads is not None:
            predicted = _predicted_here(threads, config, loaded, left, out)
        rows = list(_under_a_bar(predicted, len(left), out)) if left else []
        from_now_on(f"the pictures in {out} are complete")
    unreadable = {row["file"]: row["error"] for row in rows if row["error"]}
    good = [row for row in rows if not row["error"]]
    if not good and not done:
        raise PredictError(f"none of {len(left)} files could be read: {_listed(unreadable)}")
    PredictionRecord(
        state="finished",
        checkpoint=config.checkpoint,
        settings=settings,
        predicted=tuple(sorted([row["file"] for row in good] + [str(file) for file in done.values()])),
        unreadable=dict(sorted(unreadable.items())),
    ).write(out)
    return PredictResult(
        out=out,
        predicted=len(good),
        resumed=len(done),
        unreadable=dict(sorted(unreadable.items())),
        in_output=found.in_output,
        seconds_per_image=float(np.median([row["seconds"] for row in good])) if good else None,
        peak_gib=max((row["peak_gib"] for row in good), default=None),
    )


def describe(result: PredictResult) -> str:
    """A description of the result, with the files that could not be predicted, for users."""
    speed = ""
    if result.seconds_per_image is not None:
        speed = f" · {1 / result.seconds_per_image:.2f} images/s and at most {result.peak_gib:.2f} GiB per worker"
    lines = [f"{result.predicted} images -> {result.out}{speed}"]
    if result.resumed:
        lines.append(f"{result.resumed} images were predicted before this prediction was interrupted")
    if result.in_output:
        lines.append(f"{result.in_output} images below {result.out} are left out: they are never read as input")
    if result.unreadable:
        lines.append(f"{len(result.unreadable)} files could not be read: {_listed(result.unreadable)}")
    return "\n".join(lines)


def kinds_of(loaded: LoadedModel) -> tuple[str, ...]:
    """The pictures that a model produces for an image."""
    has_edges = ARCHITECTURES[loaded.config.model.architecture].has_edge_logits
    return tuple(kind for kind in KINDS if kind != "edge" or has_edges)


def _threads_here(config: PredictConfig, files: int) -> int | None:
    """The number of torch threads if this process predicts by itself; None if Ray's workers do.

    Ray's processes and a worker that imports torch again cost about 20 CPU seconds, without a benefit if there is no
    cluster to join and one worker does all the work.
    """
    cores, gpus = machine.cores(), torch.cuda.device_count() if config.use_gpu is not False else 0
    workers = config.num_workers or gpus or max(1, cores // CORES)
    threads = config.cpus_per_worker or cores
    # If this machine lacks something, `cluster.workers_for` raises the same error as in every job.
    has_it_all = threads <= cores and (gpus > 0 or not config.use_gpu)
    return threads if min(workers, files) == 1 and has_it_all and cluster.would_start() else None


def _workers(config: PredictConfig, files: int) -> cluster.Workers:
    cluster.connect(dashboard=False)
    workers = cluster.workers_for(config, config.num_workers, most=files, cores=CORES)
    cluster.wait_for_nodes(workers, needed=1)  # Others start when their nodes join.
    return workers


def _predicted_here(
    threads: int, config: PredictConfig, loaded: LoadedModel, files: Mapping[str, AnyPath], out: AnyPath
) -> Iterator[dict[str, Any]]:
    """Predicts with one worker in this process; yields one row per file."""
    predictor = Predictor(loaded, config, str(out), threads)
    names = list(files)
    for start in range(0, len(names), CHUNK):
        chunk = names[start : start + CHUNK]
        columns = predictor({"name": np.array(chunk), "file": np.array([str(files[name]) for name in chunk])})
        yield from (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))


def _predicted_by(
    workers: cluster.Workers,
    config: PredictConfig,
    loaded: LoadedModel,
    files: Mapping[str, AnyPath],
    out: AnyPath,
) -> Iterable[dict[str, Any]]:
    """Predicts with Ray's workers; yields one row per file."""
    import ray
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
            # In a tuple, because Ray warns of constructor arguments that are references themselves.
            fn_constructor_args=((ray.put(loaded),), config, str(out), workers.cpus),
            batch_size=CHUNK,
            num_cpus=workers.cpus,
            num_gpus=workers.gpus,
            compute=ray.data.ActorPoolStrategy(size=workers.number),
        )
        .iter_rows()
    )


def _under_a_bar(rows: Iterable[dict[str, Any]], files: int, out: AnyPath) -> Iterator[dict[str, Any]]:
    """Yields the rows as they finish, with a progress bar.

    Raises:
        PredictError: the output folder cannot be written.
    """
    with tqdm(total=files, desc="predict", unit=" images") as bar:
        for row in rows:
            if row["unwritten"]:
                raise PredictError(
                    f"--out {out} cannot be written: {row['unwritten']}\n"
                    "The existing pictures are complete: free space, and rerun the command to predict the others"
                )
            bar.update()
            yield row


class Predictor:
    """One worker's model, in a Ray actor or in this process.

    Args:
        loaded: the model, or a tuple that holds Ray's reference to it.
        config: inference, precision and whether to use a GPU.
        out: the output folder.
        cpus: number of torch threads.
    """

    def __init__(self, loaded: LoadedModel | tuple[Any], config: PredictConfig, out: str, cpus: int) -> None:
        self.loaded: LoadedModel = _fetched(loaded[0]) if isinstance(loaded, tuple) else loaded
        self.config, self.out = config, as_path(out)
        self.device = torch.device("cuda" if config.use_gpu is not False and torch.cuda.is_available() else "cpu")
        torch.set_num_threads(cpus)
        self.model = self.loaded.model.to(self.device)
        self.raw_ids = self.loaded.dataset.raw_ids

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """`name` and `file` of some images -> `file`, `seconds`, `peak_gib`, and two messages that are empty if all is
        well: `error` for the image and `unwritten` for the output folder.
        """
        rows, unwritten = [], ""
        with ThreadPoolExecutor(2) as pool:
            reads = [pool.submit(read_image, as_path(str(file))) for file in batch["file"]]
            writes: list[Future[None]] = []
            for name, file, read in zip(batch["name"], batch["file"], reads, strict=True):
                began, error = time.perf_counter(), ""
                try:
                    writes.append(pool.submit(self._write, str(name), *self._predict(read.result())))
                except BadSampleError as reason:
                    error = str(reason)
                rows.append({"file": file, "error": error, "seconds": time.perf_counter() - began})
            for write in writes:
                try:
                    write.result()
                except OSError as error:
                    unwritten = error.strerror or str(error)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        return {key: np.array([row[key] for row in rows]) for key in ("file", "error", "seconds")} | {
            "peak_gib": np.full(len(rows), peak),
            "unwritten": np.full(len(rows), unwritten),
        }

    def _predict(
        self, image: UInt8[np.ndarray, "H W 3"]
    ) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"], Float[np.ndarray, "H W"] | None]:
        prior = edge_prior(image, self.loaded.config.data.edges)
        pixels = normalize(torch.from_numpy(image).permute(2, 0, 1))[None].to(self.device)
        gradient = torch.from_numpy(prior)[None, None].to(self.device) / 255
        with autocast(self.device, self.config.precision):
            prediction = infer(self.model, pixels, gradient, self.config.inference)
        edge = None if prediction.edge is None else prediction.edge[0, 0].cpu().numpy()
        return image, prediction.label[0].cpu().numpy(), edge

    def _write(
        self,
        name: str,
        image: UInt8[np.ndarray, "H W 3"],
        label: UInt8[np.ndarray, "H W"],
        edge: Float[np.ndarray, "H W"] | None,
    ) -> None:
        colours = self.loaded.dataset.colours
        pictures = {
            "label": self.raw_ids[label],
            "colour": colourise(label, colours)[..., ::-1],
            "overlay": overlay(image, label, colours)[..., ::-1],
        }
        if edge is not None:
            pictures["edge"] = np.rint(edge * 255).astype(np.uint8)
        for kind, picture in pictures.items():
            _write_png(self.out / kind / f"{name}.png", picture)


def _fetched(reference: Any) -> LoadedModel:
    import ray

    return ray.get(reference)


def _write_png(path: AnyPath, picture: np.ndarray) -> None:
    """Writes the file atomically, even if the process is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded, data = cv2.imencode(".png", np.ascontiguousarray(picture))
    assert encoded
    patiently(lambda: write_whole(path, data.tobytes()))


def _listed(unreadable: Mapping[str, str]) -> str:
    lines = [f"\n  {reason}" for reason in list(unreadable.values())[:SHOWN]]
    more = [f"\n  and {len(unreadable) - SHOWN} more"] if len(unreadable) > SHOWN else []
    return "".join(lines + more)
