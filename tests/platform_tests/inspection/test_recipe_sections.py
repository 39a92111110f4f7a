import html
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from gscnn_platform.config import ExperimentConfig, InspectConfig, with_overrides
from gscnn_platform.data.store import Store, open_store
from gscnn_platform.inspection import cost as cost_module
from gscnn_platform.inspection.augmented import AugmentedCrop
from gscnn_platform.inspection.fitting import TRIED
from gscnn_platform.inspection.recipe_sections import Sections, tried
from gscnn_platform.inspection.sources import Read, open_source
from gscnn_platform.inspection.start import inspect_dataset
from gscnn_platform.inspection.trial_process import Drawn, Failed, Measured
from gscnn_platform.recipes import CAMVID, CAMVID_TINY, STREETS
from tests.layouts import write_camvid, write_folder, write_image

MEASURED = Measured("CPU, 2 cores", 1_500_000, 3.0, (1.0, 1.0, 1.0), 2_100_000_000, 0.0, 0.5)


class FakeProcess:
    """Stands for a trial; `seen` is what the last one was given."""

    seen: tuple[ExperimentConfig, str]
    fitting = 100
    drawn: Drawn | Failed

    def __init__(self, config: ExperimentConfig, store: str) -> None:
        FakeProcess.seen = (config, store)
        self.config = config

    def next(self) -> Drawn | Failed:
        return self.drawn

    def steps(self) -> Measured | Failed:
        fits = self.config.images_per_batch <= self.fitting
        return MEASURED if fits else Failed("the 4.0 GB that are free on this machine", is_memory=True)

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    plain = np.full((96, 128), 3, np.uint8)
    half_void = np.where(np.arange(128) < 64, 255, plain).astype(np.uint8)
    crop = AugmentedCrop(rng.integers(0, 256, (96, 128, 3), np.uint8), half_void, np.dstack([plain] * 3), plain, plain)
    monkeypatch.setattr(FakeProcess, "drawn", Drawn("a <sample>", (64, 96), [crop] * 8), raising=False)
    monkeypatch.setattr(cost_module, "_TrialProcess", FakeProcess)


def sections(recipe: ExperimentConfig, data: Store | Path) -> Sections:
    with tried(recipe, open_source(str(data if isinstance(data, Path) else data.path))) as on_data:
        return on_data.sections()


def text_of(of_recipe: Sections) -> str:
    page = re.sub(r"<style>.*?</style>|<[^>]*>", " ", of_recipe.html, flags=re.DOTALL)
    return " ".join(html.unescape(page).split())


def test_the_sections_show_the_crops_and_say_what_the_recipe_costs(streets_store: Store) -> None:
    of_recipe = sections(STREETS, streets_store)
    text = text_of(of_recipe)
    assert of_recipe.html.count("<img ") == 4 * 8
    assert "The first 8 crops that a run with seed 0 takes of sample a <sample>" in text
    assert "One worker on this machine (CPU, 2 cores): 1 s a step, 2 steps an epoch, about 2 s an epoch" in text
    assert "a step 1 s memory of a step 2.1 GB parameters 1.5 M" in text
    assert text.endswith(f"To train it: python -m jobs.train streets --store {streets_store.path}")
    assert of_recipe.numbers["cost/run_seconds"] == 8 * 2 * 1.0 + 3 * 3 * 0.5


def test_the_picture_for_mlflow_has_a_column_for_each_crop_and_its_four_rows(streets_store: Store) -> None:
    assert isinstance(FakeProcess.drawn, Drawn)
    crop = FakeProcess.drawn.crops[0]
    [content] = sections(STREETS, streets_store).files.values()
    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    picture = decoded[..., ::-1]
    assert picture.shape == (4 * 96, 8 * 128, 3)
    for column in (0, 7):
        np.testing.assert_array_equal(picture[:96, 128 * column :][:, :128], crop.image)
        np.testing.assert_array_equal(picture[96:192, 128 * column :][:, :128], crop.colours)
        np.testing.assert_array_equal(picture[288:, 128 * column :][:, :128, 1], 255 * crop.boundary)


def test_crops_that_are_larger_than_the_image_are_warned_of(streets_store: Store) -> None:
    assert "50% of these crops are void" in text_of(sections(STREETS, streets_store))
    small = with_overrides(STREETS, {"augmentation.crop": (32, 64)})
    assert "are void" not in text_of(sections(small, streets_store))


def test_the_recipe_is_tried_with_the_stores_classes_and_the_command_says_so(streets_store: Store) -> None:
    assert "--model.num-classes 9" in text_of(sections(CAMVID, streets_store))
    config, store = FakeProcess.seen
    assert (config.model.num_classes, store) == (9, str(streets_store.path))


def test_a_smaller_batch_is_named_where_the_recipes_does_not_fit(
    streets_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(FakeProcess, "fitting", 2)
    text = text_of(sections(STREETS, streets_store))
    expected = (
        "4 crops of 96x128 at once do not fit into the 4.0 GB that are free on this machine. 2 at once fit: add "
        "--training.accumulate 2, with the same number of images in a step"
    )
    assert expected in text
    assert f"note: {expected}" in capsys.readouterr().out
    assert text.endswith("--training.accumulate 2")


@pytest.mark.parametrize("failed", ["steps", "drawn"])
def test_a_recipe_that_cannot_be_tried_gives_the_reason_on_the_page(
    streets_store: Store, monkeypatch: pytest.MonkeyPatch, failed: str
) -> None:
    if failed == "drawn":
        monkeypatch.setattr(FakeProcess, "drawn", Failed("the store has no anchors", is_memory=False))
    monkeypatch.setattr(FakeProcess, "fitting", 1)
    of_recipe = sections(STREETS, streets_store)
    reason = "no step of streets fits into the 4.0 GB" if failed == "steps" else "tried: the store has no anchors"
    assert reason in text_of(of_recipe)
    assert of_recipe.html.count("<img ") == (32 if failed == "steps" else 0)
    assert not of_recipe.numbers


def test_a_recipe_with_weights_for_other_classes_gives_that_as_the_reason(streets_store: Store) -> None:
    recipe = with_overrides(CAMVID, {"loss.class_weights": (1.0,) * 11})
    text = text_of(sections(recipe, streets_store))
    assert "camvid does not fit a dataset of 9 classes: loss.class_weights is 1,1,1,1,1,1,1,1,1,1,1" in text


def test_a_raw_dataset_is_tried_on_a_small_store_that_is_removed(tmp_path: Path) -> None:
    root = write_camvid(tmp_path / "raw", frames=40)
    source = open_source(str(root))
    with tried(CAMVID_TINY, source) as on_raw:
        folder = Path(FakeProcess.seen[1])
        small = open_store(folder).split("train")
        third = small.read(3)
        text = text_of(on_raw.sections())
    names = source.names["train"]
    assert small.names == [names[number * 40 // TRIED] for number in range(TRIED)]
    [read] = source.read("train", [names.index(small.names[3])])
    assert isinstance(read, Read)
    np.testing.assert_array_equal(third.label, read.arrays.label)
    assert "5 steps an epoch" in text
    assert text.endswith(
        f"python -m jobs.precompute camvid --root {root} --out data/raw "
        "python -m jobs.train camvid-tiny --store data/raw"
    )
    assert not folder.exists()


def test_a_raw_dataset_without_a_usable_training_sample_gives_that_as_the_reason(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "raw")
    for label in (root / "labels/train").iterdir():
        write_image(label, np.full((64, 96), 77, np.uint8))
    assert text_of(sections(CAMVID_TINY, root)).endswith(
        "no sample of split train can be used, and a recipe trains on it"
    )


def test_the_page_of_an_inspection_shows_both_sections_before_the_gallery(streets_store: Store, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    inspect_dataset(InspectConfig(data=str(streets_store.path), out=str(out), gallery=2, recipe="streets"))
    headings = re.findall(r"<h2>(.*?)</h2>", out.read_text(encoding="utf-8"))
    assert headings[-3:] == ["What streets trains on", "What streets would cost", "Gallery"]


def test_an_unknown_recipe_is_refused_before_the_data_is_opened(tmp_path: Path) -> None:
    config = InspectConfig(data=str(tmp_path / "missing"), out=str(tmp_path / "page.html"), recipe="street")
    with pytest.raises(ValueError, match=r"there is no recipe street; there are: .*\ndid you mean streets"):
        inspect_dataset(config)
