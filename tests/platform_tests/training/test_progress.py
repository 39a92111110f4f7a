import pytest

from gscnn_platform.training import progress
from gscnn_platform.training.progress import Progress, duration


def test_durations_are_human_readable() -> None:
    assert [duration(seconds) for seconds in (0.4, 59.4, 60, 185, 3600, 8000)] == [
        "0s",
        "59s",
        "1m 00s",
        "3m 05s",
        "1h 00m",
        "2h 13m",
    ]


def test_the_progress_line_has_position_losses_speed_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 110.0])
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    shown = Progress(epochs=12, steps_per_epoch=46, batch_size=8, first_step=92)
    speed = shown.images_per_second(step=112)  # 20 steps in 10 s
    line = shown.line(112, {"total": 1.25, "seg": 0.9, "edge": 0.0175}, lr=0.03125, speed=speed)
    assert speed == pytest.approx(16.0)
    # 440 steps are left; 20 took 10 s.
    assert line == (
        "epoch  3/12 · step 20/46 · loss 1.250 (seg 0.900, edge 0.018) · lr 0.0312 · 16.0 images/s · 3m 40s left"
    )


def test_validation_does_not_count_towards_the_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 50.0, 60.0])
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    shown = Progress(epochs=1, steps_per_epoch=10, batch_size=4, first_step=0)
    shown.resumed()
    assert shown.images_per_second(step=10) == pytest.approx(4.0)
