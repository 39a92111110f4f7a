"""Videos through jobs.predict's function, without Ray: the overlay video, its frames and its record."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from time import sleep
from typing import Any

import cv2
import numpy as np
import pytest

from gscnn_platform import cluster
from gscnn_platform.config import ExperimentConfig, PredictConfig
from gscnn_platform.data.store import Store
from gscnn_platform.data.videos import VideoFile
from gscnn_platform.paths import as_path
from gscnn_platform.prediction import PredictError, Predictor, describe, predict
from gscnn_platform.prediction.record import VideoScores, read_record
from gscnn_platform.prediction.workers import in_order
from gscnn_platform.runs.loading import load_model
from tests.clips import NTSC, drawn, write_video, zero_packets
from tests.saved import save_checkpoint

Configured = Callable[..., PredictConfig]


@pytest.fixture
def configured(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store, monkeypatch: pytest.MonkeyPatch
) -> Configured:
    """A config of one worker in this process."""
    save_checkpoint(tmp_path / "checkpoint", tiny_run, streets_store)
    monkeypatch.setattr(cluster, "would_start", lambda: True)
    monkeypatch.setattr(cluster, "connect", lambda **_: pytest.fail("a cluster is started"))

    def config(**fields: Any) -> PredictConfig:
        usual = {"input": (f"{tmp_path}/in",), "out": f"{tmp_path}/out", "num_workers": 1, "use_gpu": False}
        return PredictConfig(checkpoint=f"{tmp_path}/checkpoint", **usual | fields)

    return config


def images_of(path: Path) -> list[np.ndarray]:
    frames = [frame.image for frame in VideoFile(path).frames()]
    return [image for image in frames if image is not None]


def nearest(picture: np.ndarray | None, candidates: dict[int, np.ndarray]) -> int:
    """The candidate that differs least from a picture that was stored with a loss."""
    assert picture is not None
    differences = {number: np.abs(each.astype(int) - picture).mean() for number, each in candidates.items()}
    number = min(differences, key=lambda number: differences[number])
    assert differences[number] < 15
    return number


def scores_of(out: Path, name: str) -> VideoScores:
    record = read_record(out)
    assert record is not None
    assert record.state == "finished"
    return record.videos[name]


def test_the_overlay_video_and_label_pictures_are_those_of_its_frames_as_images(
    tmp_path: Path, configured: Configured
) -> None:
    source = write_video(tmp_path / "in/drive.mp4", drawn(7))
    result = predict(configured(pictures=("label",)))
    worker = Predictor(load_model(tmp_path / "checkpoint"), configured(), str(tmp_path / "out"), cpus=1)
    overlays = images_of(tmp_path / "out/overlay/drive.mp4")
    frames = images_of(source)
    assert len(overlays) == len(frames) == 7
    alone = {number: worker.frame(image).overlay for number, image in enumerate(frames)}
    assert [nearest(overlay, alone) for overlay in overlays] == list(range(7))
    (tmp_path / "frames").mkdir()
    for number, image in enumerate(frames):
        assert cv2.imwrite(str(tmp_path / f"frames/{number}.png"), image[..., ::-1])
    predict(configured(input=(f"{tmp_path}/frames",), out=f"{tmp_path}/images"))
    for number in range(7):
        label = cv2.imread(str(tmp_path / f"out/label/drive.mp4/{number:06}.png"), cv2.IMREAD_UNCHANGED)
        expected = cv2.imread(str(tmp_path / f"images/label/{number}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(label, expected)
    record = read_record(tmp_path / "images")
    assert record is not None
    scores = scores_of(tmp_path / "out", "drive")
    assert scores.doubt == tuple(record.images[str(number)].doubt for number in range(7))
    np.testing.assert_allclose(
        scores.shares, np.mean([record.images[str(number)].shares for number in range(7)], axis=0), atol=1e-4
    )
    assert "7 frames of 64 x 48 at 29.97 frames/s" in describe(result)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"label", "overlay", "predictions.json"}


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mjpeg")])
def test_size_frame_rate_and_duration_are_the_inputs(
    tmp_path: Path, configured: Configured, name: str, codec: str
) -> None:
    write_video(tmp_path / "in" / name, drawn(9), codec)
    predict(configured())
    capture = cv2.VideoCapture(str(tmp_path / "out/overlay/a.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(30000 / 1001, abs=1e-9)
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 9
    assert (capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (64, 48)
    assert [frame.time for frame in VideoFile(tmp_path / "out/overlay/a.mp4").frames()] == [n / NTSC for n in range(9)]


def test_a_frame_that_cannot_be_decoded_repeats_the_one_before_and_the_timing_stays(
    tmp_path: Path, configured: Configured
) -> None:
    source = zero_packets(write_video(tmp_path / "in/a.mkv", drawn(10), "mjpeg"), 0, 4, 5)
    result = predict(configured())
    overlays = list(VideoFile(tmp_path / "out/overlay/a.mp4").frames())
    assert [frame.time for frame in overlays] == [number / NTSC for number in range(10)]
    pictures = [frame.image for frame in overlays]
    worker = Predictor(load_model(tmp_path / "checkpoint"), configured(), str(tmp_path / "out"), cpus=1)
    decoded = {frame.number: frame.image for frame in VideoFile(source).frames() if frame.image is not None}
    alone = {number: worker.frame(image).overlay for number, image in decoded.items()}
    assert [nearest(picture, alone) for picture in pictures] == [1, 1, 2, 3, 3, 3, 6, 7, 8, 9]
    scores = scores_of(tmp_path / "out", "a")
    assert scores.broken == (0, 4, 5)
    assert [number for number, value in enumerate(scores.doubt) if value is None] == [0, 4, 5]
    assert "not decoded, shown as the frame before: 3 (0, 4-5)" in describe(result)


def test_times_of_a_variable_frame_rate_are_kept_and_said(tmp_path: Path, configured: Configured) -> None:
    ticks = [0, 1, 4, 5, 9]
    write_video(tmp_path / "in/a.mp4", drawn(5), rate=Fraction(25), ticks=ticks)
    result = predict(configured(page=True))
    times = [frame.time for frame in VideoFile(tmp_path / "out/overlay/a.mp4").frames()]
    assert [float(time) for time in times] == pytest.approx([tick / 25 for tick in ticks], abs=1e-4)
    assert "variable frame rate: every frame keeps its own time" in describe(result)


def test_a_rotated_video_becomes_an_upright_overlay_and_odd_sides_even(tmp_path: Path, configured: Configured) -> None:
    write_video(tmp_path / "in/a.mp4", drawn(3), rotation=90)
    (tmp_path / "in/odd").mkdir()
    for number in range(3):
        assert cv2.imwrite(str(tmp_path / f"in/odd/{number}.png"), drawn(1, 45, 63)[0])
    result = predict(configured(video=True))
    assert images_of(tmp_path / "out/overlay/a.mp4")[0].shape == (64, 48, 3)
    assert images_of(tmp_path / "out/overlay/odd.mp4")[0].shape == (46, 64, 3)
    assert "a pixel larger" in describe(result)


def test_a_damaged_image_of_a_folder_of_frames_is_reported_by_its_number(
    tmp_path: Path, configured: Configured
) -> None:
    (tmp_path / "in").mkdir()
    for number in range(4):
        assert cv2.imwrite(str(tmp_path / f"in/f{number}.png"), drawn(4)[number])
    (tmp_path / "in/f2.png").write_bytes(b"damaged")
    predict(configured(video=True, fps=10, pictures=("label", "overlay")))
    assert scores_of(tmp_path / "out", "in").broken == (2,)
    assert sorted(path.name for path in (tmp_path / "out/label/in").iterdir()) == ["f0.png", "f1.png", "f3.png"]
    assert sorted(path.name for path in (tmp_path / "out/overlay/in").iterdir()) == ["f0.png", "f1.png", "f3.png"]


def test_an_interrupted_video_leaves_no_file_and_starts_again_while_complete_ones_are_kept(
    tmp_path: Path, configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "in/a.mp4", drawn(4))
    write_video(tmp_path / "in/b.mp4", drawn(6))
    frame, seen = Predictor.frame, []

    def interrupted(predictor: Predictor, image: np.ndarray) -> Any:
        seen.append(1)
        if len(seen) == 8:
            raise KeyboardInterrupt
        return frame(predictor, image)

    monkeypatch.setattr(Predictor, "frame", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict(configured())
    assert [path.name for path in (tmp_path / "out/overlay").iterdir()] == ["a.mp4"]
    before = (tmp_path / "out/overlay/a.mp4").stat().st_mtime_ns
    monkeypatch.setattr(Predictor, "frame", frame)
    result = predict(configured())
    assert (list(result.videos), result.resumed) == (["overlay/b.mp4"], 1)
    assert (tmp_path / "out/overlay/a.mp4").stat().st_mtime_ns == before
    assert len(images_of(tmp_path / "out/overlay/b.mp4")) == 6
    record = read_record(tmp_path / "out")
    assert record is not None
    assert (record.state, sorted(record.videos)) == ("finished", ["a", "b"])
    with pytest.raises(PredictError, match=r"2 pictures exist already, such as .*out/overlay/a\.mp4: add --overwrite"):
        predict(configured())
    assert predict(configured(overwrite=True)).resumed == 0


def test_another_rate_does_not_resume_a_folder_of_frames(
    tmp_path: Path, configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("a", "b"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        assert cv2.imwrite(str(tmp_path / f"in/{folder}/0.png"), drawn(1)[0])
    predict(configured(video=True, fps=10))
    record = read_record(tmp_path / "out")
    assert record is not None
    record.model_copy(update={"state": "running"}).write(tmp_path / "out")
    with pytest.raises(PredictError, match=r"fps was 10\.0, is 12\.0"):
        predict(configured(video=True, fps=12))


def test_a_video_on_an_object_store_gets_its_overlay_there(tmp_path: Path, configured: Configured, remote: str) -> None:
    local = write_video(tmp_path / "in/a.mp4", drawn(3))
    (as_path(remote) / "in/a.mp4").write_bytes(local.read_bytes())
    predict(configured(page=True))
    predict(configured(input=(f"{remote}/in",), out=f"{remote}/out", page=True))
    page, there = tmp_path / "out/index.html", as_path(remote) / "out/index.html"
    assert there.read_bytes() == page.read_bytes()
    # x264 does not choose the same bytes every time.
    here = dict(enumerate(images_of(tmp_path / "out/overlay/a.mp4")))
    frames = VideoFile(as_path(remote) / "out/overlay/a.mp4").frames()
    assert [nearest(frame.image, here) for frame in frames] == [0, 1, 2]


def test_results_come_in_order_and_few_items_are_read_ahead() -> None:
    read: list[int] = []
    most = 0

    def items() -> Any:
        for number in range(30):
            read.append(number)
            yield number

    def slowest_first(number: int) -> int:
        sleep(0.02 if number % 3 == 0 else 0)
        return number * number

    with ThreadPoolExecutor(4) as pool:

        def submit(number: int) -> "Future[int] | None":
            return None if number % 10 == 5 else pool.submit(slowest_first, number)

        found = []
        for number, square in in_order(items(), submit, ahead=6):
            found.append((number, square))
            most = max(most, len(read) - len(found))
    assert found == [(number, None if number % 10 == 5 else number * number) for number in range(30)]
    assert most == 6


def test_a_full_disk_ends_with_what_to_do_and_leaves_no_part_of_a_video(
    tmp_path: Path, configured: Configured, small_disk: Callable[[int], Path]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (12, 48, 64, 3), dtype=np.uint8)
    write_video(tmp_path / "in/a.mp4", list(noise))
    out = small_disk(1)
    (out / "other").write_bytes(bytes(1_030_000))
    with pytest.raises(PredictError, match=r"cannot be written: No space left on device\n.*rerun the command"):
        predict(configured(out=str(out)))
    assert list((out / "overlay").iterdir()) == []
    (out / "other").unlink()
    assert list(predict(configured(out=str(out))).videos) == ["overlay/a.mp4"]
