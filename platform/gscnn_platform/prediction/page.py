"""Writes index.html of a folder of predictions, with stills of its videos."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Final

import numpy as np

from gscnn_platform.data.videos import VideoFile
from gscnn_platform.paths import AnyPath, write_whole
from gscnn_platform.prediction.inputs import Inputs, InputVideo, ranges
from gscnn_platform.prediction.predictor import thumbnail, write_picture
from gscnn_platform.prediction.record import THUMBNAILS, PredictionRecord, VideoScores
from gscnn_platform.reporting.prediction_page import PageClass, PageImage, PageVideo, Still, render
from gscnn_platform.runs.loading import LoadedModel

PAGE: Final = "index.html"
STILLS: Final = 8
"""Frames of a video that the page shows as most doubtful, and as many as most certain."""
APART: Final = 20
"""Frames that the page shows are apart by this fraction of the video, so that they are not one moment."""


def write_page(record: PredictionRecord, inputs: Inputs, loaded: LoadedModel, out: AnyPath) -> AnyPath:
    """Writes the page of the images and videos in the record that are inputs; returns its path. Raises OSError."""
    dataset = loaded.dataset
    images = [
        PageImage(name, scores.doubt, scores.shares, f"overlay/{name}.png", f"{THUMBNAILS}/{name}.jpg")
        for name, scores in record.images.items()
        if name in inputs.images
    ]
    videos = [(inputs.videos[name], scores) for name, scores in record.videos.items() if name in inputs.videos]
    shares = _shares(record, inputs, len(dataset.classes))
    page = render(
        title="Predictions",
        facts=_facts(record, loaded, len(images), [scores for _, scores in videos]),
        classes=[
            PageClass(name, colour, share)
            for name, colour, share in zip(dataset.classes, dataset.colours, shares, strict=True)
        ],
        images=images,
        videos=[_video(video, scores, out) for video, scores in videos],
    )
    write_whole(out / PAGE, page.encode())
    return out / PAGE


def extremes(doubt: Sequence[float | None], largest: bool, most: int = STILLS) -> list[int]:
    """Numbers of the frames with the largest or smallest doubt, the most extreme first.

    Each is at least a twentieth of the video away from those before it.
    """
    known = [number for number, value in enumerate(doubt) if value is not None]
    ordered = sorted(known, key=lambda number: (doubt[number], number), reverse=largest)
    apart, found = max(1, len(doubt) // APART), []
    for number in ordered:
        if len(found) < most and all(abs(number - other) >= apart for other in found):
            found.append(number)
    return found


def _facts(
    record: PredictionRecord, loaded: LoadedModel, images: int, videos: Sequence[VideoScores]
) -> Mapping[str, str]:
    settings = record.settings
    model = loaded.config.model
    frames = sum(len(each.doubt) for each in videos)
    return {
        "checkpoint": record.checkpoint,
        "model": f"{model.architecture} on {model.backbone}, step {settings.step:g}",
        **({"images": str(images)} if images else {}),
        **({"videos": f"{len(videos)} of {frames} frames in all"} if videos else {}),
        **({"not read": f"{len(record.unreadable)} files, listed in predictions.json"} if record.unreadable else {}),
    }


def _shares(record: PredictionRecord, inputs: Inputs, classes: int) -> np.ndarray:
    """Share of each class, every image and frame counting the same."""
    total = np.zeros(classes + 1)
    for name, scores in record.images.items():
        if name in inputs.images:
            total += [*scores.shares, 1]
    for name, scores in record.videos.items():
        if name in inputs.videos:
            total += np.multiply([*scores.shares, 1], len(scores.doubt) - len(scores.broken))
    return total[:-1] / max(1, total[-1])


def _video(video: InputVideo, scores: VideoScores, out: AnyPath) -> PageVideo:
    times = scores.times or [number / scores.rate for number in range(len(scores.doubt))]
    peaks, certain = extremes(scores.doubt, largest=True), extremes(scores.doubt, largest=False)
    stills = {number: f"{THUMBNAILS}/{video.folder}/{number:06}.jpg" for number in (*peaks, *certain)}
    overlay = VideoFile(out / video.overlay)
    for number, image in overlay.frames_at({number: Fraction(times[number]) for number in stills}):
        write_picture(out / stills[number], thumbnail(image)[..., ::-1])
    broken = [f"not decoded: {len(scores.broken)} ({ranges(scores.broken)})"] if scores.broken else []
    facts = [
        f"{len(scores.doubt)} frames of {scores.size[0]} x {scores.size[1]} at {scores.rate:g} frames/s",
        *broken,
        *scores.notes,
    ]
    return PageVideo(
        name=video.name,
        facts=" · ".join(facts),
        overlay=video.overlay,
        seconds=scores.seconds,
        times=times,
        doubt=scores.doubt,
        broken=scores.broken,
        peaks=[Still(number, round(times[number], 3), stills[number]) for number in peaks],
        certain=[Still(number, round(times[number], 3), stills[number]) for number in certain],
    )
