"""jobs.evaluate without training: the checkpoints are of untrained models."""

import math
from pathlib import Path
from typing import Any

import pytest

from gscnn_platform.config import EvaluateConfig, ExperimentConfig, with_overrides
from gscnn_platform.data.held_out import validation_samples
from gscnn_platform.data.store import Identity, StaleStoreError, Store
from gscnn_platform.reporting import checkpoint_evaluation
from gscnn_platform.reporting.checkpoint_evaluation import chosen_frames, page_path
from gscnn_platform.reporting.templates import write_page
from tests.saved import save_checkpoint
from tests.stores import build_store, edit_manifest


@pytest.fixture(autouse=True)
def untracked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(checkpoint_evaluation, "_track", lambda *_: None)
    monkeypatch.chdir(tmp_path)


def checkpoint(folder: Path, run: ExperimentConfig, store: Store, **data: float) -> str:
    save_checkpoint(folder, with_overrides(run, {f"data.{key}": value for key, value in data.items()}), store)
    return str(folder)


def evaluate(store: Store, split: str, *checkpoints: str) -> checkpoint_evaluation.Evaluation:
    first, *other = checkpoints
    config = EvaluateConfig(
        checkpoint=first, store=str(store.path), split=split, compare=other[0] if other else None, report="page.html"
    )
    return checkpoint_evaluation.evaluate_checkpoint(config)


def with_other_content(manifest: dict[str, Any]) -> None:
    manifest["identity"]["content"] = "1" * 64
    manifest["fingerprint"] = Identity.model_validate(manifest["identity"]).fingerprint


def test_held_out_counts_the_samples_that_the_run_never_trained_on(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    found = evaluate(streets_store, "held-out", checkpoint(tmp_path / "a", tiny_run, streets_store, val_share=0.4))
    [model] = found.models
    reader = validation_samples(streets_store, model.loaded.config.data)
    assert reader is not None
    pixels = sum(int((reader.read(index).label != 255).sum()) for index in range(len(reader)))
    assert int(model.report.whole.confusion.counts.sum()) == pixels
    assert (len(reader), len(model.report.frames)) == (2, 2)
    assert "held-out, 2 frames" in found.page.read_text()


def test_held_out_is_rejected_if_a_model_was_trained_on_some_of_it(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    tenth = checkpoint(tmp_path / "tenth", tiny_run, streets_store, val_share=0.1)
    half = checkpoint(tmp_path / "half", tiny_run, streets_store, val_share=0.5)
    plain = checkpoint(tmp_path / "plain", tiny_run, streets_store)
    with pytest.raises(StaleStoreError, match="the two runs held out different samples"):
        evaluate(streets_store, "held-out", tenth, half)
    with pytest.raises(StaleStoreError, match=r"held out nothing \(data\.val_share is 0\)"):
        evaluate(streets_store, "held-out", plain)
    other = build_store(tmp_path / "other")
    edit_manifest(tmp_path / "other", with_other_content)
    with pytest.raises(StaleStoreError, match="pass the store that it was trained on"):
        evaluate(other, "held-out", tenth)


def test_the_error_for_a_missing_split_suggests_the_held_out_samples(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    held = checkpoint(tmp_path / "a", tiny_run, streets_store, val_share=0.4)
    with pytest.raises(StaleStoreError, match=r"no split 'dev'; it has: train, val, test; --split held-out evaluates"):
        evaluate(streets_store, "dev", held)


def test_the_best_median_and_worst_frames_of_one_model_are_chosen() -> None:
    scores = [0.3, 0.9, math.nan, 0.1, 0.5]
    assert chosen_frames([scores]) == {"best frame": 1, "median frame": 4, "worst frame": 3}
    assert chosen_frames([[0.3]]) == {"worst frame": 0}
    assert chosen_frames([[math.nan]]) == {}


def test_the_frames_where_each_of_two_models_is_ahead_are_chosen() -> None:
    assert chosen_frames([[0.3, 0.9, 0.5], [0.8, 0.2, 0.5]]) == {
        "most in favour of the first model": 1,
        "median difference": 2,
        "most in favour of the second model": 0,
    }


def test_the_page_of_two_models_with_long_names_has_a_valid_file_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [f"{'x' * 200} {end}" for end in ("a1b2c3", "d4e5f6")]
    config = EvaluateConfig(checkpoint="unused", store="unused", split="s" * 200)
    pages = {page_path(config, order) for order in (names, names[::-1], names[:1])}
    for page in pages:
        write_page(page, "page", "--report")
    assert len(list((tmp_path / "runs" / "evaluation").iterdir())) == 3
    with pytest.raises(ValueError, match=r"--report is .*, which is a folder: name a file"):
        page_path(config.model_copy(update={"report": str(tmp_path)}), names)


def test_a_checkpoint_against_itself_or_an_invalid_page_path_is_rejected_before_evaluation(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checkpoint_evaluation, "evaluate", None)
    save_checkpoint(tmp_path / "checkpoint", tiny_run, streets_store)
    config = EvaluateConfig(checkpoint=str(tmp_path / "checkpoint"), store=str(streets_store.path))
    with pytest.raises(ValueError, match="--checkpoint and --compare are the same checkpoint, streets "):
        checkpoint_evaluation.evaluate_checkpoint(config.model_copy(update={"compare": config.checkpoint}))
    with pytest.raises(ValueError, match=r"--report is .*, which is a folder: name a file"):
        checkpoint_evaluation.evaluate_checkpoint(config.model_copy(update={"report": str(tmp_path)}))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
