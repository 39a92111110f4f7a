"""Sorts a prediction's inputs into images and videos, and opens every video before the model is loaded."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Final

from gscnn_platform import cluster
from gscnn_platform.config import PredictConfig
from gscnn_platform.data.formats.decoding import BadSampleError
from gscnn_platform.data.images import InputError, find_images
from gscnn_platform.data.videos import FrameFolder, Video, VideoFile, VideoShape, frame_rate
from gscnn_platform.paths import AnyPath, pure

DEFAULT_FPS: Final = 25.0


@dataclass(frozen=True)
class InputVideo:
    """A video of the input."""

    name: str
    """Its path below the inputs' common folder, without a file's extension: the overlay is `overlay/NAME.mp4`."""
    folder: str
    """Folder of its frames' pictures below `label/` and others: the path with the extension."""
    video: Video
    shape: VideoShape

    @property
    def overlay(self) -> str:
        """The overlay video below the output folder."""
        return f"overlay/{self.name}.mp4"


@dataclass(frozen=True)
class Inputs:
    """What a prediction reads."""

    images: Mapping[str, AnyPath]
    """Name -> file. The name is the path below the inputs' common folder, without the extension."""
    videos: Mapping[str, InputVideo]
    """Name -> video."""
    unreadable: Mapping[str, str]
    """Video -> reason."""
    in_output: int
    """Files left out because they are below the output folder."""


def find_inputs(config: PredictConfig, out: AnyPath) -> Inputs:
    """Finds the images and videos, and reads the header and the first frame of each video.

    Raises:
        InputError: there is no input outside the output folder, no input can be read, or inputs would share an output.
    """
    found = find_images([cluster.resolve(text, "--input") for text in config.input], "--input", out, with_videos=True)
    if config.video and not found.files:
        raise InputError(f"--video: --input {config.input[0]} has no images, only videos, which need no --video")
    videos: list[tuple[PurePosixPath, Video]] = [(pure(file), VideoFile(file)) for file in found.videos]
    if config.video:
        rate = frame_rate(DEFAULT_FPS if config.fps is None else config.fps)
        videos += [(pure(folder.path), folder) for folder in _folders(found.files.values(), rate)]
    opened: dict[str, InputVideo] = {}
    unreadable: dict[str, str] = {}
    for path, video in sorted(videos, key=lambda each: each[0]):
        # The only folder of frames is the common folder itself: it is named after the folder.
        folder = path.relative_to(found.root if path != found.root else path.parent)
        name = str(folder.with_suffix("") if isinstance(video, VideoFile) else folder)
        if name in opened:
            raise InputError(
                f"{opened[name].video.path} and {video.path} would both be written to {name}.mp4: rename one"
            )
        try:
            opened[name] = InputVideo(name, str(folder), video, video.shape())
        except BadSampleError as error:
            unreadable[str(video.path)] = str(error)
    images = {} if config.video else found.files
    if not images and not opened:
        more = f" (and {len(unreadable) - 1} more videos)" if len(unreadable) > 1 else ""
        raise InputError(f"--input {next(iter(unreadable.values()))}{more}")
    return Inputs(images, opened, unreadable, found.in_output)


def natural(name: str) -> tuple[tuple[int, str | int], ...]:
    """A sort key by which `frame9` comes before `frame10`."""
    parts = re.split(r"(\d+)", name)
    return tuple((1, int(part)) if part.isdecimal() else (0, part) for part in parts)


def _folders(images: Iterable[AnyPath], rate: Fraction) -> list[FrameFolder]:
    """A video for each folder that directly holds images."""
    folders: dict[AnyPath, list[AnyPath]] = {}
    for file in images:
        folders.setdefault(file.parent, []).append(file)
    ordered = {folder: sorted(files, key=lambda file: natural(file.name)) for folder, files in folders.items()}
    return [FrameFolder(folder, tuple(files), rate) for folder, files in ordered.items()]


def ranges(numbers: tuple[int, ...]) -> str:
    """`3, 7-9` for 3, 7, 8, 9; at most ten of these."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    texts = [f"{first}" if first == last else f"{first}-{last}" for first, last in runs]
    return ", ".join(texts[:10]) + (f" and {len(texts) - 10} more groups" if len(texts) > 10 else "")
