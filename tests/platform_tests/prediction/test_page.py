"""The page of a folder of predictions."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import cv2
import pytest

from gscnn_platform import cluster
from gscnn_platform.config import ExperimentConfig, PredictConfig
from gscnn_platform.data.store import Store
from gscnn_platform.prediction import PredictError, predict
from gscnn_platform.prediction.page import extremes
from gscnn_platform.prediction.record import read_record
from gscnn_platform.reporting.prediction_page import MOST_IMAGES, PageClass, PageImage, PageVideo, Still, render
from tests.clips import drawn, write_video
from tests.saved import save_checkpoint

CLASSES = [PageClass("road", (128, 64, 128), 0.7), PageClass("<sky>", (70, 130, 180), 0.3)]


def page_of(images: list[PageImage], videos: list[PageVideo] | None = None) -> str:
    return render("Predictions", {"checkpoint": "runs/a"}, CLASSES, images, videos or [])


def page_image(name: str, doubt: float | None) -> PageImage:
    return PageImage(name, doubt, (0.75, 0.25), f"overlay/{name}.png", f"page/{name}.jpg")


def links(page: str) -> Iterator[str]:
    for link in re.findall(r'(?:src|href|poster|data-full)="([^"#]*)"', page):
        yield unquote(link)


def articles(page: str) -> list[dict[str, str]]:
    return [dict(re.findall(r'data-(\w+)="([^"]*)"', each)) for each in re.findall(r"<article[^>]*>", page)]


@pytest.fixture
def config(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store, monkeypatch: pytest.MonkeyPatch
) -> PredictConfig:
    save_checkpoint(tmp_path / "checkpoint", tiny_run, streets_store)
    monkeypatch.setattr(cluster, "would_start", lambda: True)
    for number, name in enumerate(["a", "deep/b #1 100%", "deep/ç?"]):
        (tmp_path / "in/deep").mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(tmp_path / f"in/{name}.png"), drawn(3, 300, 500)[number])
    write_video(tmp_path / "in/drive.mp4", drawn(9))
    return PredictConfig(
        checkpoint=f"{tmp_path}/checkpoint",
        input=(f"{tmp_path}/in",),
        out=f"{tmp_path}/out",
        page=True,
        num_workers=1,
        use_gpu=False,
    )


def test_every_link_of_the_page_works_where_its_folder_is_copied(tmp_path: Path, config: PredictConfig) -> None:
    result = predict(config)
    assert result.page == tmp_path / "out/index.html"
    shutil.move(tmp_path / "out", tmp_path / "copied")
    page = (tmp_path / "copied/index.html").read_text(encoding="utf-8")
    named = list(links(page))
    assert [link for link in named if not (tmp_path / "copied" / link).is_file()] == []
    assert "overlay/drive.mp4" in named
    assert {"overlay/deep/b #1 100%.png", "page/deep/ç?.jpg"} <= set(named)
    assert str(tmp_path / "in") not in page
    thumbnail = cv2.imread(str(tmp_path / "copied/page/a.jpg"))
    assert thumbnail is not None
    assert thumbnail.shape == (240, 400, 3)


def test_a_resumed_prediction_shows_the_doubt_of_all_its_images(tmp_path: Path, config: PredictConfig) -> None:
    predict(config)
    whole = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    record = read_record(tmp_path / "out")
    assert record is not None
    images = {name: scores for name, scores in record.images.items() if name != "a"}
    record.model_copy(update={"state": "running", "images": images}).write(tmp_path / "out")
    (tmp_path / "out/index.html").unlink()
    result = predict(config)
    assert (result.predicted, result.resumed) == (1, 3)
    assert (tmp_path / "out/index.html").read_text(encoding="utf-8") == whole
    assert sorted(float(each["doubt"]) for each in articles(whole)) == sorted(
        scores.doubt or -1 for scores in record.images.values()
    )


def test_nothing_to_show_is_an_error_and_leaves_no_page(tmp_path: Path, config: PredictConfig) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(PredictError, match="none of 1 files could be read"):
        predict(config.model_copy(update={"input": (f"{tmp_path}/bad.png",)}))
    assert not (tmp_path / "out/index.html").exists()


def test_images_are_ordered_by_doubt_and_those_without_boundary_come_last() -> None:
    found = articles(page_of([page_image("a", 0.2), page_image("b", None), page_image("c", 0.7)]))
    for key, order in (("doubt", [2, 0, 1]), ("certain", [0, 2, 1]), ("place", [0, 1, 2])):
        assert sorted(range(3), key=lambda place, key=key: -float(found[place][key])) == order


def test_of_many_images_the_most_doubtful_and_the_most_certain_are_shown() -> None:
    count = MOST_IMAGES + 300
    page = page_of([page_image(f"{number:05}", number / count) for number in range(count)])
    shown = sorted(round(float(each["doubt"]) * count) for each in articles(page))
    assert shown == [*range(MOST_IMAGES // 3), *range(count - 2 * MOST_IMAGES // 3, count)]
    assert "The 300 between" in page
    assert len(page) < 3_000_000


def test_text_is_escaped() -> None:
    page = page_of([page_image('"><script>alert(1)</script>', 0.5)])
    assert "<script>alert" not in page
    assert "&lt;sky&gt;" in page


def test_the_timeline_is_drawn_to_scale_with_a_gap_at_a_broken_frame() -> None:
    doubt = [0.2, 0.4, None, 0.6]
    still = Still(3, 0.75, "page/a.mp4/000003.jpg")
    video = PageVideo("a", "4 frames", "overlay/a.mp4", 1.0, [0, 0.25, 0.5, 0.75], doubt, [2], [still], [])
    page = page_of([], [video])
    [line] = re.findall(r'class="line" d="([^"]*)"', page)
    points = re.findall(r"([ML])(\S+) (\S+)", line)
    assert [(pen, float(x)) for pen, x, _ in points] == [("M", 0), ("L", 250), ("M", 750)]
    heights = [100 - float(y) for _, _, y in points]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.2)
    assert f"left: 75.0%; top: {points[2][2]}%" in page
    assert 'x1="500.0"' in page


def test_extremes_are_the_largest_and_apart_from_each_other() -> None:
    doubt: list[float | None] = [0.1] * 200
    doubt[50:54] = [0.8, 0.9, 0.85, 0.7]
    doubt[120], doubt[121] = 0.6, None
    assert extremes(doubt, largest=True, most=2) == [51, 120]
    assert extremes(doubt, largest=False, most=3) == [0, 10, 20]
    assert extremes([None, None], largest=True) == []
