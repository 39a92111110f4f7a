"""Inputs of a prediction sorted into images and videos, and bad options."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import pytest
from pydantic import ValidationError

from gscnn_platform.config import PredictConfig
from gscnn_platform.data.images import InputError, find_images
from gscnn_platform.data.videos import FrameFolder
from gscnn_platform.prediction.inputs import Inputs, find_inputs, natural, ranges
from tests.clips import NTSC, drawn, write_video


def config(*inputs: Path, **fields: Any) -> PredictConfig:
    return PredictConfig(checkpoint="unused", input=tuple(map(str, inputs)), out="unused", **fields)


def found(tmp_path: Path, *inputs: str, **fields: Any) -> Inputs:
    return find_inputs(config(*(tmp_path / text for text in inputs), **fields), tmp_path / "out")


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), drawn(1)[0])
    return path


def test_images_and_videos_of_one_folder_are_sorted_out(tmp_path: Path) -> None:
    image(tmp_path / "in/a.png")
    write_video(tmp_path / "in/night/drive.MP4", drawn(3))
    write_video(tmp_path / "out/overlay/old.mp4", drawn(3))
    (tmp_path / "in/notes.txt").write_text("neither")
    inputs = found(tmp_path, "in")
    assert list(inputs.images) == ["a"]
    [(name, video)] = inputs.videos.items()
    assert (name, video.overlay, video.folder) == ("night/drive", "overlay/night/drive.mp4", "night/drive.MP4")
    assert video.shape.frames == 3
    everything = found(tmp_path, ".")
    assert (list(everything.images), list(everything.videos), everything.in_output) == (["in/a"], ["in/night/drive"], 1)
    assert list(found(tmp_path, "in/**/*.MP4").videos) == ["drive"]


def test_export_still_takes_images_only(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    write_video(tmp_path / "drive.mp4", drawn(2))
    assert list(find_images([str(tmp_path)], "--frames").files) == ["a"]


def test_a_folder_of_numbered_frames_is_a_video_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (1, 2, 10, 9, 100):
        image(tmp_path / f"drive/f{number}.png")
    inputs = found(tmp_path, "drive", video=True, fps=29.97)
    assert not inputs.images
    [(name, video)] = inputs.videos.items()
    assert (name, video.overlay, video.shape.rate) == ("drive", "overlay/drive.mp4", NTSC)
    assert isinstance(video.video, FrameFolder)
    assert [file.stem for file in video.video.files] == ["f1", "f2", "f9", "f10", "f100"]
    assert found(tmp_path, "drive/*.png", video=True).videos.keys() == {"drive"}
    image(tmp_path / "other/a.png")
    both = found(tmp_path, "drive", "other", video=True)
    assert list(both.videos) == ["drive", "other"]
    assert both.videos["other"].shape.rate == Fraction(25)


def test_natural_order_compares_numbers_as_numbers() -> None:
    names = ["b1", "a10b2", "a10b10", "a9", "a", "10", "9"]
    assert sorted(names, key=natural) == ["9", "10", "a", "a9", "a10b2", "a10b10", "b1"]


def test_a_video_that_cannot_be_read_is_reported_and_does_not_stop_the_others(tmp_path: Path) -> None:
    write_video(tmp_path / "in/good.mp4", drawn(2))
    (tmp_path / "in/bad.mp4").write_bytes(b"no video")
    inputs = found(tmp_path, "in")
    assert list(inputs.videos) == ["good"]
    assert list(inputs.unreadable) == [f"{tmp_path}/in/bad.mp4"]
    with pytest.raises(InputError, match=r"--input .*/in/bad\.mp4: FFmpeg cannot read it"):
        found(tmp_path, "in/bad.mp4")


def test_videos_that_share_an_output_are_an_error(tmp_path: Path) -> None:
    write_video(tmp_path / "in/a.mp4", drawn(2))
    write_video(tmp_path / "in/a.mkv", drawn(2))
    with pytest.raises(InputError, match=r"a\.mkv and .*a\.mp4 would both be written to a\.mp4: rename one"):
        found(tmp_path, "in")


def test_video_without_a_folder_of_images_is_an_error(tmp_path: Path) -> None:
    write_video(tmp_path / "in/a.mp4", drawn(2))
    with pytest.raises(InputError, match=r"--video: --input .*/in has no images, only videos"):
        found(tmp_path, "in", video=True)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"fps": 0, "video": True}, ["fps", "greater than 0"]),
        ({"fps": 25}, ["`fps` is 25", "add --video"]),
        ({"page": True, "pictures": ("label",)}, ["`pictures` is label", "add overlay"]),
        ({"pictures": ("mask",)}, ["pictures", "'label', 'colour', 'edge' or 'overlay'"]),
        ({"pictures": ()}, ["pictures", "at least 1"]),
    ],
)
def test_a_wrong_option_is_an_error_that_names_it(fields: dict[str, Any], named: list[str]) -> None:
    with pytest.raises(ValidationError) as caught:
        config(Path("a"), **fields)
    assert [text for text in named if text not in str(caught.value)] == []


def test_numbers_are_shown_as_ranges() -> None:
    assert ranges((3,)) == "3"
    assert ranges((3, 7, 8, 9, 20)) == "3, 7-9, 20"
    assert ranges(tuple(range(0, 30, 2))).endswith("16, 18 and 5 more groups")
