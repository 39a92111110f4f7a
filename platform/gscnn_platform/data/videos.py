"""Reads the frames of a video one after the other: of a video file, or of a folder of numbered images.

FFmpeg decodes, as it comes with PyAV: MP4, MOV, AVI, Matroska, WebM, MPEG and others, with H.264, HEVC, VP8, VP9, AV1,
MPEG-4, Motion JPEG and most other codecs. Sound is not read.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from heapq import heappop, heappush
from pathlib import Path
from typing import Any, Final, NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import UInt8

from gscnn_platform.data.formats.decoding import MOST_PIXELS, BadSampleError, read_image
from gscnn_platform.paths import AnyPath

BUFFER_BYTES: Final = 1 << 22
"""Bytes that are read at a time from an object store, where each read is a request."""
REORDERED: Final = 20
"""Packets after which a frame that is not decoded counts as lost; H.264 and HEVC reorder at most 16 frames."""
USUAL_RATE: Final = Fraction(25)
"""Frames per second of a file that does not say."""


class Frame(NamedTuple):
    """One frame of a video."""

    number: int
    """From 0, counting also the frames that cannot be decoded."""
    time: Fraction
    """Seconds since the first frame."""
    image: UInt8[np.ndarray, "H W 3"] | None
    """Upright RGB; None if the frame cannot be decoded."""


class VideoShape(NamedTuple):
    """What the header of a video says."""

    width: int
    height: int
    """Pixels of the upright frame."""
    rate: Fraction
    """Frames per second, on average."""
    frames: int | None
    """Number of frames; None if the file does not say."""
    tick: Fraction
    """Seconds to which the file rounds the frames' times."""


@dataclass(frozen=True)
class VideoFile:
    """A video file, a path or URI."""

    path: AnyPath

    def shape(self) -> VideoShape:
        """Reads the header and decodes the first frame.

        Raises:
            BadSampleError: the file is missing, empty, no video, or has no frame that can be decoded; or its frames
                have more than MOST_PIXELS.
        """
        with self._opened() as (container, stream):
            first = next((frame for frame in _decoded(container, stream) if not isinstance(frame, Lost)), None)
            if first is None:
                raise BadSampleError(f"{self.path}: a video without a frame that can be decoded")
            height, width = first.height, first.width
            if height * width > MOST_PIXELS:
                raise BadSampleError(
                    f"{self.path}: the frames are {width} x {height} pixels, at most {MOST_PIXELS} are decoded: "
                    "scale the video down"
                )
            if first.rotation % 180:
                height, width = width, height
            rate, tick = _rate(stream), _tick(stream)
            duration = stream.duration * tick if stream.duration else None
            if duration is None and container.duration:
                duration = Fraction(container.duration, av.time_base)
            frames = stream.frames or (None if duration is None else round(duration * rate))
            return VideoShape(width, height, rate, frames, tick)

    def frames(self) -> Iterator[Frame]:
        """Yields all frames in the order in which they are shown; one at a time is in memory.

        Raises:
            BadSampleError: as in `shape`.
        """
        with self._opened() as (container, stream):
            rate, tick = _rate(stream), _tick(stream)
            start, last = None, None
            for number, frame in enumerate(_decoded(container, stream)):
                time = None if frame.pts is None else frame.pts * tick
                if time is None or (last is not None and time <= last):
                    # Some AVI and raw streams have no times of their own.
                    time = Fraction(0) if last is None else last + 1 / rate
                start, last = time if start is None else start, time
                image = None if isinstance(frame, Lost) or frame.is_corrupt else _rgb(frame)
                yield Frame(number, time - start, image)

    def frames_at(self, times: Mapping[int, Fraction]) -> Iterator[tuple[int, UInt8[np.ndarray, "H W 3"]]]:
        """Yields the frames that are shown at these times, without decoding the whole file.

        Args:
            times: number of a frame, which is returned with it -> seconds since the first frame.

        Raises:
            BadSampleError: as in `shape`.
        """
        with self._opened() as (container, stream):
            for number, time in sorted(times.items()):
                # To the key frame before it.
                container.seek(int(time / _tick(stream)), stream=stream)
                near = time - Fraction(1, 2000)
                for frame in container.decode(stream):
                    if frame.pts is not None and frame.pts * _tick(stream) >= near:
                        yield number, _rgb(frame)
                        break

    def picture_name(self, number: int) -> str:
        """The name of a frame's pictures, such as `000123`."""
        return f"{number:06}"

    @contextmanager
    def _opened(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        try:
            if isinstance(self.path, Path):
                if not self.path.stat().st_size:
                    raise BadSampleError(f"{self.path}: the file is empty (0 bytes)")
                source: Any = str(self.path.absolute())  # A name with a colon would be a protocol.
            else:
                source = self.path.open("rb")
            container = av.open(source, "r", metadata_errors="replace", buffer_size=BUFFER_BYTES)
        except FileNotFoundError as error:
            raise BadSampleError(f"{self.path}: the file is missing") from error
        except FFmpegError as error:
            raise BadSampleError(
                f"{self.path}: FFmpeg cannot read it ({error.strerror}): it is no video, damaged, or cut off like an "
                "MP4 whose recording was not ended"
            ) from error
        except OSError as error:
            raise BadSampleError(f"{self.path}: the file cannot be read ({error.strerror or error})") from error
        assert isinstance(container, InputContainer)
        with container:
            # A song's cover is a video stream of one picture.
            covers = Disposition.attached_pic
            stream = next((each for each in container.streams.video if not each.disposition & covers), None)
            if stream is None:
                raise BadSampleError(f"{self.path}: the file has no video, only sound or pictures")
            yield container, stream


@dataclass(frozen=True)
class FrameFolder:
    """A folder of numbered images that are the frames of a video."""

    path: AnyPath
    files: tuple[AnyPath, ...]
    """In the order in which they are shown."""
    rate: Fraction
    """Frames per second."""

    def shape(self) -> VideoShape:
        """Decodes the first frame that can be decoded. Raises BadSampleError if there is none."""
        first = next((frame.image for frame in self._frames() if frame.image is not None), None)
        if first is None:
            raise BadSampleError(f"{self.path}: none of its {len(self.files)} images can be decoded")
        height, width = first.shape[:2]
        return VideoShape(width, height, self.rate, len(self.files), 1 / self.rate)

    def frames(self) -> Iterator[Frame]:
        """Yields all frames; an image that cannot be decoded, or has another size than the first, has no `image`."""
        size = None
        for frame in self._frames():
            if frame.image is not None:
                size = size or frame.image.shape
            yield frame if frame.image is None or frame.image.shape == size else frame._replace(image=None)

    def picture_name(self, number: int) -> str:
        """The name of a frame's pictures: that of its file."""
        return self.files[number].stem

    def _frames(self) -> Iterator[Frame]:
        for number, file in enumerate(self.files):
            try:
                image = read_image(file)
            except BadSampleError:
                image = None
            yield Frame(number, number / self.rate, image)


Video = VideoFile | FrameFolder


class Lost(NamedTuple):
    """A packet that could not be decoded."""

    pts: int | None


def frame_rate(rate: float) -> Fraction:
    """The exact frame rate: 23.976, 29.97 and 59.94 are 24000/1001, 30000/1001 and 60000/1001."""
    ntsc = Fraction(round(rate) * 1000, 1001)
    return ntsc if 0 < abs(rate - ntsc) < 0.005 and rate != round(rate) else Fraction(rate).limit_denominator(1001)


def _rate(stream: VideoStream) -> Fraction:
    return stream.average_rate or stream.guessed_rate or USUAL_RATE


def _tick(stream: VideoStream) -> Fraction:
    assert stream.time_base is not None  # Every stream of an opened file has one.
    return stream.time_base


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame | Lost]:
    """Yields the frames in the order in which they are shown, with a `Lost` for each that cannot be decoded.

    A decoder yields frames late, because some are coded after frames that are shown later. After damage it may also
    yield them in a wrong order, or not at all. So each packet's time is expected to become a frame, and after a while
    counts as lost. Without damage it does not: a few codecs have packets that are not shown.
    """
    expected: list[int] = []
    ready: dict[int, VideoFrame] = {}
    since_error = 2 * REORDERED + 1
    for packet, frames in _packets(container, stream):
        since_error = 0 if frames is None else since_error + 1
        if packet is not None and packet.pts is not None and not packet.is_discard:
            heappush(expected, packet.pts)
        elif frames is None:
            yield Lost(None)
        for frame in frames or ():
            if frame.pts is None or frame.pts in ready:
                yield frame
                continue
            if frame.pts not in expected:
                heappush(expected, frame.pts)
            ready[frame.pts] = frame
        while expected and (expected[0] in ready or len(expected) > REORDERED or packet is None):
            pts = heappop(expected)
            if pts in ready:
                yield ready.pop(pts)
            elif since_error <= 2 * REORDERED:
                yield Lost(pts)


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[tuple[Packet | None, list[VideoFrame] | None]]:
    """Yields each packet with the frames that the decoder has ready, or with None if it cannot be decoded.

    The last one is None, with the frames that the decoder still holds.
    """
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except FFmpegError:
            packet = None  # The rest of the file is missing or cannot be read.
        if packet is not None and packet.dts is None and not packet.size:
            packet = None  # PyAV's mark of the file's end.
        try:
            # Without threads of FFmpeg's own, an error belongs to this packet and not to an earlier one.
            frames = stream.codec_context.decode(packet)
        except FFmpegError:
            frames = None if packet is not None else []
        yield packet, frames
        if packet is None:
            return


def _rgb(frame: VideoFrame) -> UInt8[np.ndarray, "H W 3"]:
    image = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(image, frame.rotation // 90)) if frame.rotation else image
