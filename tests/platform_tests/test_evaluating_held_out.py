"""jobs.evaluate on what a run has held out, without training: the checkpoint is of an untrained model."""

from pathlib import Path
from typing import Any

import pytest

from gscnn_platform.config import EvaluateConfig, ExperimentConfig, with_overrides
from gscnn_platform.data.held_out import validation_samples
from gscnn_platform.data.store import Identity, StaleStoreError, Store
from gscnn_platform.reporting import job
from tests.saved import save_checkpoint
from tests.stores import build_store, edit_manifest


@pytest.fixture(autouse=True)
def untracked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(job, "_track", lambda *_: None)
    monkeypatch.chdir(tmp_path)


def checkpoint(folder: Path, run: ExperimentConfig, store: Store, **data: float) -> str:
    save_checkpoint(folder, with_overrides(run, {f"data.{key}": value for key, value in data.items()}), store)
    return str(folder)


def evaluate(store: Store, split: str, *checkpoints: str) -> job.Evaluation:
    first, *other = checkpoints
    config = EvaluateConfig(
        checkpoint=first, store=str(store.path), split=split, compare=other[0] if other else None, report="page.html"
    )
    return job.evaluate_checkpoint(config)


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


def test_held_out_is_refused_where_something_of_it_was_trained_on(
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


def test_a_split_that_is_not_there_is_told_with_what_the_run_held_out(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    held = checkpoint(tmp_path / "a", tiny_run, streets_store, val_share=0.4)
    with pytest.raises(StaleStoreError, match=r"no split 'dev'; it has: train, val, test; --split held-out counts"):
        evaluate(streets_store, "dev", held)
