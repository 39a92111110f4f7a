"""Predicts a video frame by frame: an overlay video, on demand pictures of the frames, and the video's scores."""

import math
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from itertools import pairwise
from typing import Final

import numpy as np
from tqdm import tqdm

from gscnn_platform.data.formats.decoding import BadSampleError
from gscnn_platform.data.videos import Frame
from gscnn_platform.paths import AnyPath
from gscnn_platform.prediction.inputs import InputVideo
from gscnn_platform.prediction.overlay_video import publishing
from gscnn_platform.prediction.predictor import PredictedFrame, write_picture
from gscnn_platform.prediction.record import VideoScores
from gscnn_platform.prediction.workers import FramePredictor, in_order

UNEVEN: Final = 0.1
"""The frame rate counts as variable if two frames last longer or shorter by more than this share of a frame."""
SHORT: Final = 0.95
"""A file with a smaller share of its header's number of frames counts as cut off; the number may be an estimate."""


def predict_video(video: InputVideo, predictor: FramePredictor, out: AnyPath) -> VideoScores:
    """Writes `overlay/NAME.mp4`, and the pictures of frames that the predictor returns, with a progress bar.

    Each frame is shown at its own time. A frame that cannot be decoded is counted, and the overlay of the frame before
    it is repeated in its place (at the start, that of the first decoded frame), so that frame N of the overlay video is
    frame N of the input. Memory holds the frames in progress, however long the video is.

    Raises:
        BadSampleError: the video cannot be read any more, or no frame can be decoded.
        OSError: the output folder cannot be written.
    """
    tally = _Tally()
    waiting: list[Fraction] = []
    shown: np.ndarray | None = None
    with (
        publishing(out / video.overlay, video.shape) as writer,
        ThreadPoolExecutor(2) as pool,
        tqdm(total=video.shape.frames, desc=video.name, unit=" frames") as bar,
    ):
        writes: list[Future[None]] = []
        for frame, predicted in _predicted(video, predictor):
            bar.update()
            tally.add(frame, predicted)
            if predicted is not None:
                shown = predicted.overlay
                for time in waiting:
                    writer.write(shown, time)
                waiting.clear()
                name = video.video.picture_name(frame.number)
                while len(writes) > 2 * predictor.ahead:
                    writes.pop(0).result()
                writes += [
                    pool.submit(write_picture, out / kind / video.folder / f"{name}.png", picture)
                    for kind, picture in predicted.pictures.items()
                ]
            if shown is None:
                waiting.append(frame.time)
            else:
                writer.write(shown, frame.time)
        for write in writes:
            write.result()
        if shown is None:
            raise BadSampleError(f"{video.video.path}: no frame can be decoded")
    return tally.scores(video)


def _predicted(video: InputVideo, predictor: FramePredictor) -> Iterator[tuple[Frame, PredictedFrame | None]]:
    return in_order(
        video.video.frames(),
        lambda frame: None if frame.image is None else predictor.submit(frame.image),
        predictor.ahead,
    )


class _Tally:
    """What is counted over the frames of a video."""

    def __init__(self) -> None:
        self.doubt: list[float | None] = []
        self.broken: list[int] = []
        self.shares: np.ndarray | float = 0.0
        self.times: list[Fraction] = []

    def add(self, frame: Frame, predicted: PredictedFrame | None) -> None:
        self.times.append(frame.time)
        if predicted is None:
            self.broken.append(frame.number)
            self.doubt.append(None)
        else:
            self.doubt.append(None if math.isnan(predicted.doubt) else round(predicted.doubt, 4))
            self.shares = self.shares + predicted.shares

    def scores(self, video: InputVideo) -> VideoScores:
        shape, frames = video.shape, len(self.doubt)
        intervals = [after - before for before, after in pairwise(self.times)] or [1 / shape.rate]
        variable = max(intervals) - min(intervals) > max(2 * shape.tick, UNEVEN / shape.rate)
        notes = []
        if shape.frames is not None and frames < SHORT * shape.frames:
            notes.append(f"the file ends after {frames} of {shape.frames} frames")
        if variable:
            notes.append("variable frame rate: every frame keeps its own time")
        if shape.width % 2 or shape.height % 2:
            notes.append("the overlay video is a pixel larger, because its sides must be even")
        shares = np.asarray(self.shares) / (frames - len(self.broken))
        return VideoScores(
            file=str(video.video.path),
            size=(shape.width, shape.height),
            rate=round(float(shape.rate), 3),
            seconds=round(float(self.times[-1] + 1 / shape.rate), 3),
            times=tuple(round(float(time), 3) for time in self.times) if variable else (),
            doubt=tuple(self.doubt),
            shares=tuple(round(float(share), 5) for share in shares),
            broken=tuple(self.broken),
            notes=tuple(notes),
        )
