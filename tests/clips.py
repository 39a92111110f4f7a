"""Writes small videos, for tests of their readers."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream

NTSC = Fraction(30000, 1001)


def drawn(frames: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """RGB frames of smooth colours, each with a blue of its own, and a bright bar that moves."""
    rows, columns = np.mgrid[0:height, 0:width]
    ground = np.stack([rows * 3, columns * 2, 200 - rows - columns], axis=2).astype(np.uint8)
    found = []
    for number in range(frames):
        frame = ground.copy()
        frame[..., 2] = 25 * number % 251
        frame[8:24, (4 * number) % (width - 8) : (4 * number) % (width - 8) + 8] = (250, 240, 30)
        found.append(frame)
    return found


def write_video(
    path: Path,
    frames: Sequence[np.ndarray],
    codec: str = "libx264",
    rate: Fraction = NTSC,
    rotation: int = 0,
    ticks: Sequence[int] | None = None,
) -> Path:
    """Writes RGB frames; `ticks` are their times in units of 1 / rate, by default 0, 1, 2, ..."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.options = {"g": "5", "crf": "10"} if codec == "libx264" else {}
        stream.bit_rate = 4_000_000
        if rotation:
            stream.set_display_rotation(rotation)
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = (number if ticks is None else ticks[number]), 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def zero_packets(path: Path, *numbers: int) -> Path:
    """Overwrites the coded data of some frames with zeros."""
    with av.open(str(path)) as container:
        packets = sorted((each for each in container.demux(video=0) if each.size), key=lambda each: each.pts or 0)
        places = [(packets[number].pos or 0, packets[number].size) for number in numbers]
    data = bytearray(path.read_bytes())
    for start, size in places:
        data[start + 8 : start + size] = bytes(size - 8)
    path.write_bytes(data)
    return path
