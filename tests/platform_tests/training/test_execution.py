"""What the driver checks and reports around a training; the ways to run it are tested by the jobs' tests."""

import pytest

from gscnn_platform import cluster
from gscnn_platform.config import ExperimentConfig, with_overrides
from gscnn_platform.training import execution
from gscnn_platform.training.execution import Waiting, check_sync_bn

ON_CPU = cluster.Workers(number=2, cpus=1, gpus=0, room=2)
ON_GPU = cluster.Workers(number=2, cpus=1, gpus=1, room=2)


def test_synchronized_batch_norm_without_gpus_names_the_flag_to_add(tiny_run: ExperimentConfig) -> None:
    synchronized = with_overrides(tiny_run, {"training.sync_bn": True})
    check_sync_bn(synchronized, ON_GPU)
    check_sync_bn(tiny_run, ON_CPU)
    with pytest.raises(ValueError, match=r"training\.sync_bn works on GPUs only.*--training\.no-sync-bn"):
        check_sync_bn(synchronized, ON_CPU)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, to be changed by the test."""
    now = [0.0]
    monkeypatch.setattr(execution.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """What the cluster lacks, to be changed by the test."""
    lacks: list[str | None] = [None]
    monkeypatch.setattr(execution.cluster, "lacking", lambda *_: lacks[0])
    return lacks


def test_a_lack_of_nodes_is_reported_once_and_so_is_its_end(
    clock: list[float], short: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(execution, "say", lines.append)
    waiting = Waiting(needed=2, cpus=1, gpus=0, advice="ADVICE")

    def after_a_look() -> list[str]:
        clock[0] += execution.LOOK_SECONDS
        waiting()
        return lines

    assert after_a_look() == []
    short[0] = "2 x 1 CPU, room for 1"
    waiting()
    assert lines == [], "the cluster is not looked at more often than every LOOK_SECONDS"
    assert after_a_look() == ["waiting for nodes: 2 workers need 2 x 1 CPU, room for 1. ADVICE"]
    assert len(after_a_look()) == 1
    short[0] = "2 x 1 CPU, room for 0"
    assert after_a_look()[1] == "waiting for nodes: 2 workers need 2 x 1 CPU, room for 0. ADVICE"
    short[0] = None
    assert after_a_look()[2] == "all required nodes are available"
    assert len(after_a_look()) == 3
