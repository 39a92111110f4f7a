"""What benchmarks.gpu_check says about a card."""

from collections.abc import Iterator

import pytest
import torch

from benchmarks import gpu_check
from benchmarks.gpu_check import Row, Settings, run
from gscnn.metrics.labels import Labels

ON_CPU = Settings(device=torch.device("cpu"))


def holding(settings: Settings) -> Iterator[Row]:
    yield Row("first", "1", "1", True)


def raising(settings: Settings) -> Iterator[Row]:
    yield Row("before", "1", "1", True)
    raise RuntimeError("no kernel image\nis available")


def test_a_check_that_raises_is_a_broken_row_and_the_next_one_runs() -> None:
    rows = run({"raising": raising, "holding": holding}, ON_CPU, 1, lambda line: None)
    assert [(row.what, row.verdict) for row in rows] == [
        ("before", "confirmed"),
        ("raising", "broken"),
        ("first", "confirmed"),
    ]
    assert rows[1].measured == "is available"


def test_no_check_begins_after_the_minutes_are_over() -> None:
    (row,) = run({"holding": holding}, ON_CPU, 0, lambda line: None)
    assert row.verdict == "recorded"
    assert "0 minutes are over" in row.measured


def test_metrics_that_count_differently_on_the_device_break_the_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = gpu_check.metrics(ON_CPU)
    assert row.holds
    seen: list[int] = []

    class Off(gpu_check.ConfusionMatrix):
        def update(self, prediction: Labels, truth: Labels) -> None:
            super().update(prediction, truth)
            self.counts[0, 0] += len(seen)
            seen.append(1)

    monkeypatch.setattr(gpu_check, "ConfusionMatrix", Off)
    (row,) = gpu_check.metrics(ON_CPU)
    assert not row.holds


CLAIMS = [
    ("channels_last", [1.0, 1.1], True),
    ("channels_last", [1.0, 0.9], False),
    ("bf16", [1.0, 1.4], True),
    ("bf16", [1.0, 0.99], False),
]


@pytest.mark.parametrize(("name", "ratios", "holds"), CLAIMS)
def test_the_verdict_on_a_variant_follows_its_speed(name: str, ratios: list[float], holds: bool) -> None:
    _, _, verdict = gpu_check.claim(name, ratios, {"float32": 0, name: 1}, 0.001, 0.001, [1.0, 0.5], "")
    assert verdict is holds


def test_a_loss_curve_that_deviates_far_more_than_rounding_breaks_the_claim() -> None:
    _, _, verdict = gpu_check.claim("bf16", [1.0, 1.4], {"float32": 0, "bf16": 1}, 0.2, 0.001, [1.0, 0.5], "")
    assert verdict is False


def test_without_a_gpu_it_says_so_and_ends_with_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["gpu_check"])
    with pytest.raises(SystemExit, match="no GPU"):
        gpu_check.main()
