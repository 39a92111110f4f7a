"""Training runs that are really killed and resumed by the same command, minutes each. `make faults`."""

import random
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.faults.driven import ROOT, Driven
from tests.faults.table import note
from tests.stores import flip_bit

pytestmark = pytest.mark.slow


def test_driver_killed_three_times(run: Driven, undisturbed: str) -> None:
    # Once per epoch, early: Ray stops the workers of a killed driver only seconds and some steps later.
    steps = [10 * epoch + random.Random(epoch).choice((2, 4)) for epoch in range(3)]
    for step in steps:
        run.start()
        run.at_step(step)
        run.signal(signal.SIGKILL)
        run.end()
        time.sleep(random.Random(step).uniform(0, 3))
        if run.starts > 1:
            assert run.said("resuming after step")
    seconds = run.resume_to_the_end()
    run.assert_as_if_nothing_had_happened(undisturbed)
    note("driver killed three times", f"SIGKILL after steps {steps}", "steps since the last checkpoint", seconds)


def test_worker_killed_mid_epoch(run: Driven, undisturbed: str) -> None:
    run.start()
    run.at_step(16)
    began = time.monotonic()
    run.workers()[-1].kill()
    run.wait_for(r"resuming after step")
    seconds = time.monotonic() - began
    assert run.end() == 0, run.log.read_text()[-3000:]
    run.assert_as_if_nothing_had_happened(undisturbed)
    note("worker killed mid-epoch", "SIGKILL", "steps since the last checkpoint", seconds)


def test_worker_frozen(run: Driven, undisturbed: str) -> None:
    run.extra = {"training.collective-timeout-minutes": 0.5}
    run.start()
    run.at_step(16)
    began = time.monotonic()
    run.workers()[-1].suspend()
    run.wait_for(r"resuming after step", seconds=300)
    seconds = time.monotonic() - began
    assert run.end() == 0, run.log.read_text()[-3000:]
    run.assert_as_if_nothing_had_happened(undisturbed)
    how = "SIGSTOP under `--training.collective-timeout-minutes 0.5`"
    note("unresponsive worker", how, "steps since the last checkpoint", seconds)


def test_sigterm(run: Driven, undisturbed: str) -> None:
    run.start()
    run.at_step(6)
    began = time.monotonic()
    run.signal(signal.SIGTERM)
    assert run.end() == 143
    stopped_in = time.monotonic() - began
    assert run.said(r"stopped after step \d+; rerun the command to resume from there")
    [found] = run.mlflow_runs()
    assert found.info.status == "KILLED"
    assert "stopped after step" in found.data.tags["stopped"]
    seconds = run.resume_to_the_end()
    run.assert_as_if_nothing_had_happened(undisturbed)
    note("SIGTERM to the driver", f"kill -TERM; ended after {stopped_in:.0f} s", "nothing", seconds)


def test_newest_checkpoint_damaged(run: Driven, undisturbed: str) -> None:
    run.start()
    run.at_step(16)
    workers = run.workers()
    run.signal(signal.SIGKILL)
    run.end()
    psutil.wait_procs(workers, timeout=60)  # Until then they may write another one.
    newest = max(path for path in run.run_folder.iterdir() if path.name.startswith("step-"))
    damaged = bytearray((newest / "training.pt").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (newest / "training.pt").write_bytes(bytes(damaged))
    seconds = run.resume_to_the_end()
    assert run.said(rf"{newest.name} is damaged \(training\.pt is damaged\): resuming from the previous one")
    run.assert_as_if_nothing_had_happened(undisturbed)
    note("newest checkpoint damaged", "one bit flipped", "steps since the checkpoint before it", seconds)


def test_other_settings_under_the_same_name(run: Driven) -> None:
    run.start()
    run.at_step(6)
    run.signal(signal.SIGKILL)
    run.end()
    run.extra = {"optimizer.lr": 0.5}
    run.start()
    began = time.monotonic()
    assert run.end() == 1
    assert run.said(r"--run-name .* optimizer\.lr was 0\.05, is 0\.5\. Pass the same values")
    note("other settings under a run's name", "--optimizer.lr", "nothing: refused", time.monotonic() - began)


def test_a_loss_that_becomes_nan(run: Driven) -> None:
    run.extra = {"optimizer.lr": 1e20}
    run.start()
    began = time.monotonic()
    assert run.end() == 1
    assert run.said(r"step \d+: loss or gradient is not finite\. worker 0: .*total nan")
    assert run.said(r"on samples \d+, \d+; worker 1: .*There is no checkpoint yet")
    [found] = run.mlflow_runs()
    assert found.info.status == "FAILED" and "is not finite" in found.data.tags["failure"]
    lost = "nothing is saved after it; the error has step, loss terms and samples of each worker"
    note("a loss becomes NaN", "--optimizer.lr 1e20", lost, time.monotonic() - began)


def test_a_store_that_rots_under_a_training(run: Driven, undisturbed: str) -> None:
    part = next((run.folder / "store" / "train").iterdir())
    whole = part.read_bytes()
    run.start()
    run.at_step(12)
    try:
        for place in range(len(whole) // 8, len(whole) - 4096, len(whole) // 8):
            flip_bit(part, place)
        assert run.end() == 1
        assert run.said(rf"{part.name}, row \d+ \(sample .*\) cannot be read")
        verify = [sys.executable, "-m", "jobs.verify", "--store", str(run.folder / "store")]
        found = subprocess.run(
            verify, cwd=ROOT, env=run.variables, capture_output=True, text=True, check=False, timeout=120
        )
        assert found.returncode == 1 and part.name in found.stdout + found.stderr
    finally:
        part.write_bytes(whole)
    seconds = run.resume_to_the_end()
    run.assert_as_if_nothing_had_happened(undisturbed)
    lost = "steps since the last checkpoint; the error names the file, `jobs.verify` lists all faults"
    note("store damaged while it is read", "bits of a part flipped, later restored", lost, seconds)
