"""One worker's model: the pictures of image files, and the overlays of a video's frames."""

import resource
import time
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from gscnn.architectures import ARCHITECTURES
from gscnn.batch import normalize
from gscnn.inference import boundary_entropy, infer
from gscnn_platform.config import PredictConfig
from gscnn_platform.data.formats.decoding import BadSampleError, read_image
from gscnn_platform.data.images import edge_prior
from gscnn_platform.evaluation import autocast
from gscnn_platform.label_pictures import colourise, overlay
from gscnn_platform.paths import AnyPath, as_path, write_whole
from gscnn_platform.prediction.record import KINDS, THUMBNAILS
from gscnn_platform.remote_errors import patiently
from gscnn_platform.runs.loading import LoadedModel

CHUNK: Final = 8
"""Images that a worker takes at a time: while the model processes one, threads read and write others."""
THUMBNAIL_WIDTH: Final = 400
"""Maximum width in pixels of a picture in the page's gallery; such a JPEG has about 20 KB."""


class PredictedFrame(NamedTuple):
    """What a worker returns of a video's frame."""

    overlay: UInt8[np.ndarray, "H W 3"]
    """RGB."""
    pictures: dict[str, np.ndarray]
    """The kinds that were asked for, as OpenCV writes them: BGR or one channel."""
    doubt: float
    """NaN without a boundary."""
    shares: Float[np.ndarray, " K"]


class _Predicted(NamedTuple):
    label: UInt8[np.ndarray, "H W"]
    edge: Float[np.ndarray, "H W"] | None
    doubt: float
    shares: Float[np.ndarray, " K"]


class Predictor:
    """One worker's model, in a Ray actor or in this process.

    Args:
        loaded: the model, or a tuple that holds Ray's reference to it.
        config: inference, precision, the kinds of pictures, and whether to use a GPU.
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
        self.kinds = kinds_of(self.loaded, config)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """`name` and `file` of some images -> these, `seconds`, `peak_gib`, `doubt`, `shares`, and two messages that
        are empty if all is well: `error` for the image and `unwritten` for the output folder.
        """
        rows, unwritten = [], ""
        with ThreadPoolExecutor(2) as pool:
            reads = [pool.submit(read_image, as_path(str(file))) for file in batch["file"]]
            writes: list[Future[None]] = []
            for name, file, read in zip(batch["name"], batch["file"], reads, strict=True):
                began, error = time.perf_counter(), ""
                doubt, shares = np.nan, np.zeros(len(self.raw_ids))
                try:
                    image = read.result()
                    predicted = self._predict(image)
                    doubt, shares = predicted.doubt, predicted.shares
                    writes.append(pool.submit(self._write, str(name), image, predicted))
                except BadSampleError as reason:
                    error = str(reason)
                seconds = time.perf_counter() - began
                rows.append(
                    {"name": name, "file": file, "error": error, "seconds": seconds, "doubt": doubt, "shares": shares}
                )
            for write in writes:
                try:
                    write.result()
                except OSError as error:
                    unwritten = error.strerror or str(error)
        return {key: np.array([row[key] for row in rows]) for key in rows[0]} | {
            "peak_gib": np.full(len(rows), peak_gib()),
            "unwritten": np.full(len(rows), unwritten),
        }

    def frame(self, image: UInt8[np.ndarray, "H W 3"]) -> PredictedFrame:
        """Predicts one frame of a video: its overlay and, if the config names kinds of pictures, those."""
        image = np.require(image, requirements="W")  # Ray's arrays are read-only, of which torch warns.
        predicted = self._predict(image)
        pictures = self._pictures(image, predicted, self.kinds if self.config.pictures else ())
        picture = overlay(image, predicted.label, self.loaded.dataset.colours)
        return PredictedFrame(picture, pictures, predicted.doubt, predicted.shares)

    def _predict(self, image: UInt8[np.ndarray, "H W 3"]) -> _Predicted:
        prior = edge_prior(image, self.loaded.config.data.edges)
        pixels = normalize(torch.from_numpy(image).permute(2, 0, 1))[None].to(self.device)
        gradient = torch.from_numpy(prior)[None, None].to(self.device) / 255
        with autocast(self.device, self.config.precision):
            prediction = infer(self.model, pixels, gradient, self.config.inference)
        classes = prediction.label
        doubt = boundary_entropy(prediction.probabilities, classes).item()
        edge = None if prediction.edge is None else prediction.edge[0, 0].cpu().numpy()
        label = classes[0].cpu().numpy()
        return _Predicted(label, edge, doubt, np.bincount(label.ravel(), minlength=len(self.raw_ids)) / label.size)

    def _pictures(
        self, image: UInt8[np.ndarray, "H W 3"], predicted: _Predicted, kinds: Collection[str]
    ) -> dict[str, np.ndarray]:
        """The pictures as OpenCV writes them."""
        colours = self.loaded.dataset.colours
        pictures: dict[str, np.ndarray] = {}
        if "label" in kinds:
            pictures["label"] = self.raw_ids[predicted.label]
        if "colour" in kinds:
            pictures["colour"] = colourise(predicted.label, colours)[..., ::-1]
        if "edge" in kinds and predicted.edge is not None:
            pictures["edge"] = np.rint(predicted.edge * 255).astype(np.uint8)
        if "overlay" in kinds:
            pictures["overlay"] = overlay(image, predicted.label, colours)[..., ::-1]
        return pictures

    def _write(self, name: str, image: UInt8[np.ndarray, "H W 3"], predicted: _Predicted) -> None:
        pictures = self._pictures(image, predicted, self.kinds)
        for kind, picture in pictures.items():
            write_picture(self.out / kind / f"{name}.png", picture)
        if self.config.page:
            write_picture(self.out / THUMBNAILS / f"{name}.jpg", thumbnail(pictures["overlay"]))


def kinds_of(loaded: LoadedModel, config: PredictConfig) -> tuple[str, ...]:
    """The pictures that a model writes for an image; without `edge` if it has no shape stream."""
    has_edges = ARCHITECTURES[loaded.config.model.architecture].has_edge_logits
    return tuple(kind for kind in config.pictures or KINDS if kind != "edge" or has_edges)


def peak_gib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def thumbnail(picture: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """The picture, no wider than THUMBNAIL_WIDTH."""
    height, width = picture.shape[:2]
    if width <= THUMBNAIL_WIDTH:
        return picture
    size = (THUMBNAIL_WIDTH, max(1, round(height * THUMBNAIL_WIDTH / width)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def write_picture(path: AnyPath, picture: np.ndarray) -> None:
    """Writes a PNG or JPEG atomically, even if the process is killed. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded, data = cv2.imencode(path.suffix, np.ascontiguousarray(picture))
    assert encoded
    patiently(lambda: write_whole(path, data.tobytes()))


def _fetched(reference: Any) -> LoadedModel:
    import ray

    return ray.get(reference)
