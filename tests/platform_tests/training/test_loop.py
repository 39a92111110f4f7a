"""A worker's whole loop in this process: the checkpoints that it keeps, and from which of them it resumes."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from gscnn_platform.config import ExperimentConfig
from gscnn_platform.data.store import Store
from gscnn_platform.runs.checkpoint import MODEL, TRAINING, CheckpointError
from gscnn_platform.runs.folder import RunFolder
from gscnn_platform.runs.loading import load_model, load_training_state
from gscnn_platform.runs.ref import RunRef
from gscnn_platform.training import loop
from gscnn_platform.training.job import WorkerJob
from gscnn_platform.training.loop import Place, train
from gscnn_platform.training.step_signal import Signal
from tests.stores import flip_bit

Train = Callable[..., RunFolder]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    printed: list[str] = []
    monkeypatch.setattr(loop, "say", printed.append)
    return printed


@pytest.fixture
def train_in(
    tiny_run: ExperimentConfig, streets_store: Store, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> Train:
    """Trains `tiny_run`, 2 epochs of 3 steps, untracked: to the end, or until `stop_after` steps have been taken."""
    monkeypatch.setattr(loop.RunWriter, "opened", lambda *_: nullcontext(None))

    def run(folder: Path, stop_after: int | None = None) -> RunFolder:
        run_folder, calls = RunFolder.of(str(folder), "run"), iter(range(1, 100))
        job = WorkerJob(
            config=tiny_run,
            store=str(streets_store.path),
            folder=run_folder,
            run=RunRef(folder / "run" / "tracking", f"sqlite:///{folder}/mlflow.db", "0" * 32),
            use_gpu=False,
            cpus=1,
        )

        def asked() -> Signal:
            return Signal.STOP if next(calls) == stop_after else Signal.GO_ON

        train(job, Place(0, 1, torch.device("cpu"), asked, preempted=lambda: False, tell=lambda scores: None))
        return run_folder

    return run


def weights_of(folder: RunFolder) -> dict[str, torch.Tensor]:
    return load_training_state(folder.last())["model"]


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for key, value in one.items():
        torch.testing.assert_close(other[key], value, rtol=0, atol=0)


def test_a_run_that_was_stopped_ends_with_the_weights_of_one_that_was_not(
    train_in: Train, tmp_path: Path, lines: list[str]
) -> None:
    undisturbed = train_in(tmp_path / "a")
    assert not lines
    stopped = train_in(tmp_path / "b", stop_after=4)
    assert lines == ["stopped after step 4 of 6"]
    assert stopped.last().endswith("step-00000004")
    train_in(tmp_path / "b")
    assert stopped.last().endswith("step-00000006")
    assert_same(weights_of(stopped), weights_of(undisturbed))


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_resumed(
    train_in: Train, tmp_path: Path, lines: list[str]
) -> None:
    undisturbed = train_in(tmp_path / "a")
    folder = train_in(tmp_path / "b", stop_after=4)
    newest, before, *_ = folder.steps()
    flip_bit(Path(folder.at(newest)) / TRAINING, 200)
    lines.clear()
    train_in(tmp_path / "b")
    assert len(lines) == 1 and lines[0].startswith(f"checkpoint {newest} is damaged ({TRAINING}")
    assert before == "step-00000003"
    assert_same(weights_of(folder), weights_of(undisturbed))


def test_without_an_undamaged_checkpoint_nothing_is_trained(train_in: Train, tmp_path: Path) -> None:
    folder = train_in(tmp_path, stop_after=4)
    before = folder.steps()
    for name in before:
        flip_bit(Path(folder.at(name)) / TRAINING, 200)
    with pytest.raises(CheckpointError, match="start a new run under another --run-name"):
        train_in(tmp_path)
    assert folder.steps() == before


def test_the_best_checkpoint_is_that_of_the_best_validation(train_in: Train, tmp_path: Path) -> None:
    folder = train_in(tmp_path)
    best = folder.best()
    assert best is not None and (Path(best) / MODEL).is_file()
    state = load_training_state(folder.last())
    assert load_model(best).metrics["epoch"] == state["best"]["epoch"]
