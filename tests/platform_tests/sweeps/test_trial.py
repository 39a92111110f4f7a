"""Steps of a trial from the events of its training run, without Tune and without a cluster."""

import threading
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from gscnn_platform.config import ExperimentConfig
from gscnn_platform.sweeps.search_spaces import SEARCH_SPACES
from gscnn_platform.sweeps.searchers import EPOCH, NUMBER, SCORE
from gscnn_platform.sweeps.trial import SweepJob, SweepTrial
from gscnn_platform.training.worker import NonFiniteLossError


def trial_with(tiny_run: ExperimentConfig, tmp_path: Path, *events: tuple[str, Any]) -> SweepTrial:
    trial = SweepTrial.__new__(SweepTrial)
    trial._trial_info = None
    trial.job = SweepJob(
        recipe=tiny_run,
        space=SEARCH_SPACES["loss-small"],
        metric="val/miou",
        storage=str(tmp_path),
        parent_run_id="0" * 32,
        space_name="loss-small",
        command="jobs.sweep",
    )
    trial._prepare({NUMBER: 0, "loss.edge": 2.0, "loss.attention": 1.0})
    trial.thread, trial.events = threading.current_thread(), Queue()
    for event in events:
        trial.events.put(event)
    return trial


def test_a_trial_reports_its_best_score_so_far(tiny_run: ExperimentConfig, tmp_path: Path) -> None:
    told = [("scores", {"epoch": float(epoch), "val/miou": miou}) for epoch, miou in ((1, 0.3), (2, 0.2))]
    trial = trial_with(tiny_run, tmp_path, *told, ("end", {"val/miou": 0.3}))
    steps = [trial.step() for _ in range(3)]
    assert [(step[EPOCH], step[SCORE], step["done"]) for step in steps] == [
        (1, 0.3, False),
        (2, 0.3, False),
        (2, 0.3, True),
    ]


def test_a_trial_of_a_finished_run_has_its_best_checkpoints_score(tiny_run: ExperimentConfig, tmp_path: Path) -> None:
    step = trial_with(tiny_run, tmp_path, ("end", {"val/miou": 0.4})).step()
    assert (step[EPOCH], step[SCORE], step["done"]) == (tiny_run.training.epochs, 0.4, True)


def test_a_diverged_trial_ends_with_the_lowest_score_and_a_failed_trial_raises(
    tiny_run: ExperimentConfig, tmp_path: Path
) -> None:
    scores = ("scores", {"epoch": 1.0, "val/miou": 0.3})
    trial = trial_with(tiny_run, tmp_path, scores, ("failed", NonFiniteLossError("nan")))
    trial.step()
    step = trial.step()
    assert (step[EPOCH], step[SCORE], step["diverged"], step["done"]) == (1, 0.0, True, True)
    with pytest.raises(OSError, match="disk"):
        trial_with(tiny_run, tmp_path, ("failed", OSError("disk"))).step()
