"""StepLog and FiniteCheck: what is printed and tracked of each step, and when a step counts as not finite."""

import math

import pytest
import torch

from gscnn_platform.training import step_log
from gscnn_platform.training.progress import Progress
from gscnn_platform.training.step_log import FiniteCheck, StepLog


class Recorder:
    """Stands in for RunWriter: keeps what it gets."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, dict[str, float]]] = []

    def log_steps(self, rows: list[tuple[int, dict[str, float]]]) -> None:
        self.steps += rows


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    printed: list[str] = []
    monkeypatch.setattr(step_log, "say", printed.append)
    return printed


def log_of(recorder: Recorder | None, speak: bool = True) -> StepLog:
    progress = Progress(epochs=2, steps_per_epoch=4, batch_size=2, first_step=0)
    return StepLog(progress, world_size=1, writer=recorder, speak=speak)  # type: ignore[arg-type]


def add(log: StepLog, *totals: float, skipped: int = 0) -> None:
    for total in totals:
        terms = {"total": torch.tensor(total), "seg": torch.tensor(2 * total), "grad_norm": torch.tensor(9.0)}
        log.add(terms, {"lr": 0.1}, skipped)


def test_every_step_is_tracked_once_under_its_number(recorder: Recorder) -> None:
    log = log_of(recorder)
    add(log, 1.0, 2.0)
    log.flush(2)
    log.flush(2)
    add(log, 3.0)
    log.flush(3)
    assert [step for step, _ in recorder.steps] == [1, 2, 3]
    assert recorder.steps[2][1] == pytest.approx(
        {"train/total": 3.0, "train/seg": 6.0, "train/grad_norm": 9.0, "train/lr": 0.1}
    )


def test_the_line_has_the_mean_of_all_steps_since_the_last_line_and_no_norm(
    recorder: Recorder, lines: list[str]
) -> None:
    log = log_of(recorder)
    add(log, 1.0)
    log.flush(1)
    add(log, 3.0)
    log.tell(2)
    assert "loss 2.000 (seg 4.000) · lr 0.1000" in lines[0]
    add(log, 5.0)
    log.tell(3)
    assert "loss 5.000 (seg 10.000)" in lines[1]


def test_a_value_that_is_not_finite_is_not_tracked_and_not_averaged(recorder: Recorder, lines: list[str]) -> None:
    log = log_of(recorder)
    add(log, 1.0, math.nan, skipped=1)
    log.tell(2)
    assert "train/total" not in recorder.steps[1][1]
    assert recorder.steps[1][1]["train/skipped"] == 1
    assert "loss 1.000" in lines[0]
    add(log, math.inf)
    log.tell(3)
    assert "loss nan" in lines[1]


def test_a_worker_that_does_not_speak_prints_nothing(lines: list[str]) -> None:
    log = log_of(None, speak=False)
    add(log, 1.0)
    log.tell(1)
    assert not lines


def test_the_terms_of_an_earlier_step_can_be_named() -> None:
    log = log_of(None)
    add(log, 1.0, 2.0)
    assert log.last_of_this_worker()["total"] == 2.0
    assert log.last_of_this_worker(back=1)["total"] == 1.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_step_whose_norm_is_not_finite_is_found_at_once_on_the_cpu(bad: float) -> None:
    check = FiniteCheck(torch.device("cpu"))
    check.add(1, torch.tensor(1.0))
    assert check.first_bad() is None
    check.add(2, torch.tensor(bad))
    check.add(3, torch.tensor(bad))
    assert check.first_bad() == 2
    assert check.first_bad() == 3
    assert check.first_bad(all_of_them=True) is None
