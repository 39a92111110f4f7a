"""predictions.json: the settings of a folder of predictions, and whether it is complete.

It is written before the first picture and every few seconds, so that rerunning the command resumes an interrupted
prediction.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Self

from gscnn.config import InferenceConfig
from gscnn_platform.config import Config, PredictConfig
from gscnn_platform.paths import AnyPath, below, write_whole
from gscnn_platform.prediction.inputs import DEFAULT_FPS
from gscnn_platform.runs.loading import LoadedModel

RECORD: Final = "predictions.json"
KINDS: Final = ("label", "colour", "edge", "overlay")
"""Folders below the output folder: a PNG for each image, and videos in `overlay`; no `edge` from a model without shape
stream."""
THUMBNAILS: Final = "page"
"""Folder of the page's small pictures."""
WRITE_SECONDS: Final = 10.0
"""Seconds between writes, so that a killed prediction repeats no more than these."""
WRITTEN_ENDINGS: Final = (".png", ".jpg", ".mp4")
"""Extensions of the files that a prediction writes into its folders."""


class PredictionSettings(Config):
    """Settings that the pictures depend on, apart from the images."""

    run_id: str
    """MLflow id of the run that trained the model; of the authors' file `sha256:` and its digest."""
    step: float
    """Optimizer step of the checkpoint."""
    trained_on: str
    """Fingerprint of the training store."""
    inference: InferenceConfig
    precision: Literal["float32", "bf16"]
    classes: tuple[str, ...]
    label_values: tuple[int, ...]
    """Raw label value of each class, as in the pictures in `label/`."""
    fps: float | None = None
    """Frames per second of folders of frames; None for video files and images."""

    @classmethod
    def of(cls, config: PredictConfig, loaded: LoadedModel) -> "PredictionSettings":
        return cls(
            run_id=loaded.origin,
            step=loaded.metrics.get("step", 0.0),
            trained_on=loaded.dataset.fingerprint,
            inference=config.inference,
            precision=config.precision,
            classes=loaded.dataset.classes,
            label_values=tuple(loaded.dataset.raw_ids.tolist()),
            fps=(config.fps or DEFAULT_FPS) if config.video else None,
        )


class ImageScores(Config):
    """What a prediction says of itself."""

    doubt: float | None
    """Mean entropy at predicted boundaries, 0 to 1 (gscnn.inference.boundary_entropy); None without any boundary."""
    shares: tuple[float, ...]
    """Share of the pixels predicted as each class."""


class VideoScores(Config):
    """What the predictions of a video say of themselves, and how the video was read."""

    file: str
    size: tuple[int, int]
    """Width and height of the overlay video, in pixels."""
    rate: float
    """Frames per second, on average."""
    seconds: float
    """Duration."""
    times: tuple[float, ...] = ()
    """Seconds from the first frame to each frame; empty if the frame rate is constant."""
    doubt: tuple[float | None, ...]
    """Of each frame, as for images; None also for a frame that could not be decoded."""
    shares: tuple[float, ...]
    """Share of the pixels of all frames predicted as each class."""
    broken: tuple[int, ...] = ()
    """Frames that could not be decoded, counted from 0; the overlay video repeats the frame before them."""
    notes: tuple[str, ...] = ()
    """What else differs from a usual video, for users."""


class PredictionRecord(Config):
    """The content of predictions.json."""

    state: Literal["running", "finished"]
    """`running` is also the state after an interruption."""
    checkpoint: str
    """As the user gave it."""
    settings: PredictionSettings
    predicted: tuple[str, ...] = ()
    """The predicted files; empty until all are predicted."""
    unreadable: Mapping[str, str] = {}
    """File -> reason."""
    images: Mapping[str, ImageScores] = {}
    """Name of each predicted image -> its scores."""
    videos: Mapping[str, VideoScores] = {}
    """Name of each predicted video -> its scores."""

    def write(self, out: AnyPath) -> None:
        """Writes predictions.json in the output folder. Raises OSError."""
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / RECORD, (self.model_dump_json(indent=1) + "\n").encode())


def read_record(out: AnyPath) -> PredictionRecord | None:
    """The record in an output folder; None if there is none, or if this code cannot read it."""
    try:
        return PredictionRecord.model_validate_json((out / RECORD).read_bytes())
    except (FileNotFoundError, ValueError):
        return None


class RecordKeeper:
    """Keeps predictions.json while a prediction runs: every few seconds, and if it fails or is interrupted.

    Args:
        out: the output folder.
        record: what is known at the start.
    """

    def __init__(self, out: AnyPath, record: PredictionRecord) -> None:
        self.out, self.record = out, record
        self.images, self.videos = dict(record.images), dict(record.videos)

    def __enter__(self) -> Self:
        self._write()
        return self

    def __exit__(self, *_: object) -> None:
        self._write()

    def add_image(self, name: str, scores: ImageScores) -> None:
        self.images[name] = scores
        if time.monotonic() - self._written > WRITE_SECONDS:
            self._write()

    def add_video(self, name: str, scores: VideoScores) -> None:
        self.videos[name] = scores
        self._write()

    def _write(self) -> None:
        self.record = self.record.model_copy(update={"images": self.images, "videos": self.videos})
        self.record.write(self.out)
        self._written = time.monotonic()


def files_in(out: AnyPath, kinds: Sequence[str]) -> set[str]:
    """`KIND/NAME.png` and the like: the files in these folders below an output folder."""
    found = (str(below(path, out)) for kind in kinds for path in (out / kind).glob("**/*.*"))
    return {file for file in found if file.endswith(WRITTEN_ENDINGS)}


def changed(before: PredictionSettings, now: PredictionSettings) -> str:
    """The differences between two settings as text: `step was 40, is 80`."""
    theirs: dict[str, Any] = before.model_dump()
    ours: dict[str, Any] = now.model_dump()
    return "; ".join(f"{key} was {theirs[key]}, is {ours[key]}" for key in ours if theirs[key] != ours[key])
