"""Trainings that are killed for real and started again by the same command. Minutes each: `make faults`."""

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gscnn_platform.data.formats.streets import Streets
from tests.faults.driven import STEPS, Driven
from tests.faults.table import note
from tests.stores import build_store

pytestmark = pytest.mark.slow
EVERY_STEP = list(range(1, STEPS + 1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    build_store(folder / "store", Streets(height=64, width=96, train=40, val=6, test=1))
    return folder


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> str:
    """The weights that an undisturbed run ends with."""
    run = Driven(folder, "undisturbed")
    run.start()
    assert run.end() == 0, run.log.read_text()[-3000:]
    assert run.steps_of("train/total") == EVERY_STEP
    return run.weights()


@pytest.fixture
def run(folder: Path, request: pytest.FixtureRequest) -> Iterator[Driven]:
    driven = Driven(folder, request.node.originalname.removeprefix("test_")[:40])
    yield driven
    if driven.running:
        driven.signal(signal.SIGKILL)


def at_step(run: Driven, step: int) -> None:
    epoch, in_epoch = divmod(step - 1, 10)
    run.wait_for(rf"epoch {epoch + 1}/3 · step +{in_epoch + 1}/10")


def resume_to_the_end(run: Driven) -> float:
    """Starts the same command again; returns the seconds until training went on."""
    run.start()
    began = time.monotonic()
    run.wait_for(r"going on after step")
    run.wait_for(r"epoch \d/3 · step")
    seconds = time.monotonic() - began
    assert run.end() == 0, run.log.read_text()[-3000:]
    return seconds


def assert_as_if_nothing_had_happened(run: Driven, undisturbed: str) -> None:
    assert run.weights() == undisturbed, "bit-equal weights"
    assert [found.info.status for found in run.mlflow_runs()] == ["FINISHED"], "one MLflow run"
    assert run.steps_of("train/total") == EVERY_STEP, "strictly increasing, none twice, no gap"
    assert run.steps_of("val/miou") == [0, 1, 2, 3]


def test_driver_killed_three_times(run: Driven, undisturbed: str) -> None:
    steps = sorted(random.Random(7).sample(range(4, 28, 2), 3))
    seconds = []
    for step in steps:
        run.start()
        at_step(run, step)
        run.signal(signal.SIGKILL)
        run.end()
        time.sleep(random.Random(step).uniform(0, 3))
        if run.starts > 1:
            assert run.said("going on after step")
    seconds.append(resume_to_the_end(run))
    assert_as_if_nothing_had_happened(run, undisturbed)
    note("driver killed three times", f"SIGKILL after steps {steps}", "steps since the last checkpoint", seconds[-1])


def test_worker_killed_mid_epoch(run: Driven, undisturbed: str) -> None:
    run.start()
    at_step(run, 16)
    began = time.monotonic()
    run.workers()[-1].kill()
    run.wait_for(r"going on after step")
    seconds = time.monotonic() - began
    assert run.end() == 0, run.log.read_text()[-3000:]
    assert_as_if_nothing_had_happened(run, undisturbed)
    note("worker killed mid-epoch", "SIGKILL", "steps since the last checkpoint", seconds)


def test_sigterm(run: Driven, undisturbed: str) -> None:
    run.start()
    at_step(run, 6)
    began = time.monotonic()
    run.signal(signal.SIGTERM)
    assert run.end() == 143
    stopped_in = time.monotonic() - began
    assert run.said(r"stopped after step \d+; the same command goes on from there")
    [found] = run.mlflow_runs()
    assert found.info.status == "KILLED"
    assert "stopped after step" in found.data.tags["stopped"]
    seconds = resume_to_the_end(run)
    assert_as_if_nothing_had_happened(run, undisturbed)
    note("SIGTERM to the driver", f"kill -TERM; ended after {stopped_in:.0f} s", "nothing", seconds)


def test_newest_checkpoint_damaged(run: Driven, undisturbed: str) -> None:
    run.start()
    at_step(run, 16)
    run.signal(signal.SIGKILL)
    run.end()
    newest = max(path for path in run.run_folder.iterdir() if path.name.startswith("step-"))
    damaged = bytearray((newest / "training.pt").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (newest / "training.pt").write_bytes(damaged)
    seconds = resume_to_the_end(run)
    assert run.said(rf"{newest.name} is damaged \(training\.pt is damaged\): going on from the one before it")
    assert_as_if_nothing_had_happened(run, undisturbed)
    note("newest checkpoint damaged", "one bit flipped", "steps since the checkpoint before it", seconds)


def test_other_settings_under_the_same_name(run: Driven) -> None:
    run.start()
    at_step(run, 6)
    run.signal(signal.SIGKILL)
    run.end()
    run.extra = {"optimizer.lr": 0.5}
    run.start()
    began = time.monotonic()
    assert run.end() == 1
    assert run.said(r"ResumeError: --run-name .* optimizer\.lr was 0\.05, is 0\.5\. Give the same values")
    note("other settings under a run's name", "--optimizer.lr", "nothing: refused", time.monotonic() - began)
