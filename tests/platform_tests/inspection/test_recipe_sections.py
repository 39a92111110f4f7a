import html
import re
from pathlib import Path

import numpy as np
import pytest

from gscnn_platform.config import ExperimentConfig, with_overrides
from gscnn_platform.data.store import Store
from gscnn_platform.inspection import cost as cost_module
from gscnn_platform.inspection.augmented import AugmentedCrop
from gscnn_platform.inspection.cost import CostError
from gscnn_platform.inspection.recipe_sections import tried_on_samples, tried_on_store
from gscnn_platform.inspection.trial_process import Drawn, Failed, Measured
from gscnn_platform.recipes import CAMVID, STREETS

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


def text_of(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)).split())


def test_the_sections_show_the_crops_and_say_what_the_recipe_costs(streets_store: Store) -> None:
    with tried_on_store(STREETS, streets_store) as tried:
        page = tried.sections()
    text = text_of(page)
    assert page.count("<img ") == 4 * 8
    assert "The first 8 crops that a run with seed 0 takes of sample a <sample>" in text
    assert "One worker on this machine (CPU, 2 cores): 1 s a step, 2 steps an epoch, about 2 s an epoch" in text
    assert "a step 1 s memory of a step 2.1 GB parameters 1.5 M" in text
    assert text.endswith(f"python -m jobs.train streets --store {streets_store.path}")


def test_crops_that_are_larger_than_the_image_are_warned_of(streets_store: Store) -> None:
    with tried_on_store(STREETS, streets_store) as tried:
        assert "50% of these crops are void" in text_of(tried.sections())
    small = with_overrides(STREETS, {"augmentation.crop": (32, 64)})
    with tried_on_store(small, streets_store) as tried:
        assert "are void" not in text_of(tried.sections())


def test_the_recipe_is_tried_with_the_stores_classes_and_the_command_says_so(streets_store: Store) -> None:
    with tried_on_store(CAMVID, streets_store) as tried:
        assert "--model.num-classes 9" in text_of(tried.sections())
    config, store = FakeProcess.seen
    assert (config.model.num_classes, store) == (9, str(streets_store.path))


def test_a_smaller_batch_is_named_where_the_recipes_does_not_fit(
    streets_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(FakeProcess, "fitting", 2)
    with tried_on_store(STREETS, streets_store) as tried:
        text = text_of(tried.sections())
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
    with tried_on_store(STREETS, streets_store) as tried:
        page = tried.sections()
    reason = "no step of streets fits into the 4.0 GB" if failed == "steps" else "tried: the store has no anchors"
    assert reason in text_of(page)
    assert page.count("<img ") == (32 if failed == "steps" else 0)


def test_a_recipe_with_weights_for_other_classes_is_refused(streets_store: Store) -> None:
    recipe = with_overrides(CAMVID, {"loss.class_weights": (1.0,) * 11})
    with (
        pytest.raises(CostError, match="camvid does not fit a dataset of 9 classes"),
        tried_on_store(recipe, streets_store),
    ):
        pass


def test_a_raw_dataset_is_tried_on_a_small_store_that_is_removed(streets_store: Store) -> None:
    identity, reader = streets_store.manifest.identity, streets_store.split("train")
    samples = [(reader.names[0], reader.read(0, anchors=True))]
    amounts = {"train": 400, "val": 20}
    with tried_on_samples(STREETS, identity.classes, identity.colours, identity.edges, amounts, samples) as tried:
        folder = Path(FakeProcess.seen[1])
        assert (folder / "manifest.json").is_file()
        text = text_of(tried.sections())
    assert "100 steps an epoch" in text
    assert text.endswith("python -m jobs.train streets --store STORE")
    assert not folder.exists()
