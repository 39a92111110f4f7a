"""Frames of videos, against OpenCV's own decoder."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from gscnn_platform.data.formats.decoding import BadSampleError
from gscnn_platform.data.videos import FrameFolder, VideoFile, frame_rate
from gscnn_platform.paths import as_path
from tests.clips import NTSC, drawn, write_video, zero_packets


def by_opencv(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1][..., ::-1])
    return frames


def difference(one: np.ndarray | None, other: np.ndarray) -> float:
    assert one is not None
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other).mean())


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.m4v", "libx264"),
        ("a.mov", "mpeg4"),
        ("a.avi", "mpeg4"),
        ("b.avi", "mjpeg"),
        ("a.mkv", "libx264"),
        ("a.webm", "libvpx-vp9"),
        ("b.webm", "libvpx"),
        ("a.mpg", "mpeg2video"),
    ],
)
def test_every_frame_is_read_in_order_as_opencv_reads_it(tmp_path: Path, name: str, codec: str) -> None:
    video = VideoFile(write_video(tmp_path / name, drawn(12), codec))
    frames, expected = list(video.frames()), by_opencv(tmp_path / name)
    assert [frame.number for frame in frames] == list(range(12)) == list(range(len(expected)))
    for frame, other in zip(frames, expected, strict=True):
        assert difference(frame.image, other) < 2
        assert abs(frame.time - frame.number / NTSC) <= Fraction(1, 1000), "Matroska rounds to milliseconds"
    shape = video.shape()
    assert (shape.width, shape.height) == (64, 48)
    assert abs(float(shape.rate / NTSC) - 1) < 1e-3


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_rotated_video_comes_upright(tmp_path: Path, rotation: int) -> None:
    video = VideoFile(write_video(tmp_path / "a.mp4", drawn(2), rotation=rotation))
    [first, _] = video.frames()
    expected = by_opencv(tmp_path / "a.mp4")[0]
    assert difference(first.image, expected) < 2
    assert difference(first.image, np.rot90(drawn(1)[0], rotation // 90)) < 8
    assert (video.shape().height, video.shape().width) == expected.shape[:2]


def test_a_frame_whose_data_is_lost_is_named_by_its_number_and_keeps_its_time(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "a.mkv", drawn(10), "mjpeg")
    times = [frame.time for frame in VideoFile(whole).frames()]
    frames = list(VideoFile(zero_packets(whole, 0, 4, 5, 9)).frames())
    assert [frame.number for frame in frames if frame.image is None] == [0, 4, 5, 9]
    assert [frame.time for frame in frames] == times


def test_frames_that_depend_on_a_lost_one_are_lost_until_the_next_key_frame(tmp_path: Path) -> None:
    video = VideoFile(zero_packets(write_video(tmp_path / "a.mp4", drawn(15)), 5))
    lost = [frame.number for frame in video.frames() if frame.image is None]
    assert 5 in lost
    assert set(lost) <= set(range(3, 10)), "a key frame every 5 frames"


def test_times_of_a_variable_frame_rate_are_kept(tmp_path: Path) -> None:
    ticks = [0, 1, 4, 5, 9]
    frames = list(VideoFile(write_video(tmp_path / "a.mp4", drawn(5), rate=Fraction(25), ticks=ticks)).frames())
    assert [frame.time for frame in frames] == [Fraction(tick, 25) for tick in ticks]


def test_a_frame_found_by_its_time_is_the_frame_of_that_number(tmp_path: Path) -> None:
    video = VideoFile(write_video(tmp_path / "a.mp4", drawn(14)))
    frames = {frame.number: frame for frame in video.frames()}
    found = dict(video.frames_at({number: frames[number].time for number in (11, 0, 6, 7)}))
    assert sorted(found) == [0, 6, 7, 11]
    for number, image in found.items():
        np.testing.assert_array_equal(image, frames[number].image)


def test_a_video_on_an_object_store_is_read_where_it_lies(tmp_path: Path, remote: str) -> None:
    local = write_video(tmp_path / "a.mp4", drawn(6))
    place = as_path(remote) / "a.mp4"
    place.write_bytes(local.read_bytes())
    for here, there in zip(VideoFile(local).frames(), VideoFile(place).frames(), strict=True):
        assert here.image is not None
        np.testing.assert_array_equal(here.image, there.image)


def test_a_file_that_is_no_video_says_what_is_wrong(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "a.mp4", drawn(6)).read_bytes()
    sound = tmp_path / "sound.m4a"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.mp4").write_text("no video " * 50)
    (tmp_path / "empty.mp4").touch()
    for name, reason in (
        ("cut.mp4", "FFmpeg cannot read it"),
        ("text.mp4", "FFmpeg cannot read it"),
        ("empty.mp4", r"the file is empty \(0 bytes\)"),
        ("gone.mp4", "the file is missing"),
        ("sound.m4a", "no video, only sound"),
        (zero_packets(write_video(tmp_path / "lost.mkv", drawn(3), "mjpeg"), 0, 1, 2).name, "without a frame that can"),
    ):
        with pytest.raises(BadSampleError, match=f"{name}: .*{reason}"):
            VideoFile(tmp_path / name).shape()


def test_an_image_of_a_folder_that_is_damaged_or_of_another_size_is_a_lost_frame(tmp_path: Path) -> None:
    files = []
    for number, height in enumerate((48, 48, 40, 48)):
        files.append(tmp_path / f"{number}.png")
        assert cv2.imwrite(str(files[-1]), drawn(1, height)[0])
    files[1].write_bytes(b"damaged")
    folder = FrameFolder(tmp_path, tuple(files), NTSC)
    frames = list(folder.frames())
    assert [frame.number for frame in frames if frame.image is None] == [1, 2]
    assert [frame.time for frame in frames] == [number / NTSC for number in range(4)]
    assert folder.shape() == (64, 48, NTSC, 4, 1 / NTSC)


@pytest.mark.parametrize(
    ("typed", "exact"),
    [
        (25, Fraction(25)),
        (29.97, NTSC),
        (23.976, Fraction(24000, 1001)),
        (23.98, Fraction(24000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (30, Fraction(30)),
        (12.5, Fraction(25, 2)),
        (0.5, Fraction(1, 2)),
    ],
)
def test_a_broadcast_frame_rate_is_exact(typed: float, exact: Fraction) -> None:
    assert frame_rate(typed) == exact
