import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import psutil
import pytest

from gscnn.model import build_model
from gscnn_platform.config import ExperimentConfig, with_overrides
from gscnn_platform.data.store import Store
from gscnn_platform.inspection import cost as cost_module
from gscnn_platform.inspection.augmented import DRAWS, augmented_crops
from gscnn_platform.inspection.cost import Cost, CostError, RecipeTrial, roughly
from gscnn_platform.inspection.fitting import Amount
from gscnn_platform.inspection.trial_process import TIMED, Drawn, Failed, Measured
from gscnn_platform.recipes import CAMVID, CAMVID_TINY

MEASURED = Measured(
    device="CPU, 2 cores",
    parameters=12_000_000,
    first_step=3.0,
    steps=(1.7, 1.8, 1.9),
    memory=2_100_000_000,
    loading=0.0,
    validating=0.5,
)
CAMVID_AMOUNT = Amount(training=367, validation=100)


def test_the_cost_adds_up_to_the_whole_training() -> None:
    cost = Cost(CAMVID_TINY, CAMVID_AMOUNT, MEASURED)
    assert cost.steps == 46
    assert cost.step_seconds == pytest.approx(1.8)
    assert cost.epoch_seconds == pytest.approx(46 * 1.8)
    # Before the first epoch, and after epochs 3, 6, 9 and 12.
    assert cost.validations == 5
    assert cost.run_seconds == pytest.approx(12 * 46 * 1.8 + 5 * 100 * 0.5)
    assert cost.sentence == (
        "one worker on this machine (CPU, 2 cores): 1.8 s a step, 46 steps an epoch, about 83 s an epoch, 12 epochs in "
        "21 min, with 5 validations of 50 s each; 2.1 GB"
    )


def test_without_validation_the_sentence_says_nothing_of_it() -> None:
    cost = Cost(CAMVID_TINY, Amount(80, 0), MEASURED)
    assert cost.sentence.endswith("10 steps an epoch, about 18 s an epoch, 12 epochs in 3.6 min; 2.1 GB")


def test_a_step_takes_at_least_as_long_as_loading_its_crops() -> None:
    config = with_overrides(CAMVID, {"data.loader_processes": 1})
    computing, loading = (
        Cost(config, CAMVID_AMOUNT, MEASURED),
        Cost(config, CAMVID_AMOUNT, replace(MEASURED, loading=6)),
    )
    assert computing.step_seconds == pytest.approx(1.8)
    assert loading.step_seconds == 6
    assert any("Loading takes longer than computing" in note for note in loading.notes)
    assert not any("Loading takes longer than computing" in note for note in computing.notes)


def test_a_single_step_that_exhausts_the_time_counts_and_is_said_to_be_one() -> None:
    cost = Cost(CAMVID_TINY, CAMVID_AMOUNT, replace(MEASURED, steps=()))
    assert cost.step_seconds == 3.0
    assert "one step was timed" in cost.notes[0]


def test_a_busy_machine_is_told() -> None:
    quiet, busy = (Cost(CAMVID_TINY, CAMVID_AMOUNT, replace(MEASURED, others=share)) for share in (0.1, 0.45))
    assert not any("Other processes" in note for note in quiet.notes)
    assert (
        "Other processes used 45% of this machine's cores meanwhile: on a quiet machine a step is faster." in busy.notes
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0341, "0.034 s"),
        (1.83, "1.8 s"),
        (81.2, "81 s"),
        (3240, "54 min"),
        (27000, "7.5 h"),
        (1_036_800, "12 days"),
    ],
)
def test_a_time_has_two_digits_and_the_unit_of_its_size(seconds: float, text: str) -> None:
    assert roughly(seconds) == text


class FakeProcess:
    """Stands for a trial of a machine on which `fitting` crops at once fit into memory."""

    fitting = 4

    def __init__(self, config: ExperimentConfig, store: str) -> None:
        self.config = config

    def next(self) -> Drawn:
        return Drawn("sample", (64, 96), [])

    def steps(self) -> Measured | Failed:
        fits = self.config.images_per_batch <= self.fitting
        return MEASURED if fits else Failed("the 4.0 GB that are free on this machine", is_memory=True)

    def close(self) -> None:
        pass


def test_a_batch_that_does_not_fit_into_memory_is_split_until_it_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cost_module, "_TrialProcess", FakeProcess)
    with RecipeTrial(CAMVID, "store", CAMVID_AMOUNT) as trial:
        cost = trial.cost()
    assert (cost.config.training.accumulate, cost.config.training.batch_size) == (4, 16)
    assert cost.did_not_fit == "16 crops of 360x480 at once do not fit into the 4.0 GB that are free on this machine"
    assert "8 crops at once do not fit into memory: trying 4" in capsys.readouterr().out


def test_a_recipe_whose_smallest_batch_does_not_fit_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost_module, "_TrialProcess", FakeProcess)
    monkeypatch.setattr(FakeProcess, "fitting", 1)
    with RecipeTrial(CAMVID, "store", CAMVID_AMOUNT) as trial, pytest.raises(CostError) as refused:
        trial.cost()
    assert str(refused.value) == (
        "no step of camvid fits into the 4.0 GB that are free on this machine, not even 2 crops of 360x480 at once\n"
        "train on a machine with more memory, or on smaller crops: --augmentation.crop 180 240"
    )


@contextmanager
def trial_of(config: ExperimentConfig, store: Store) -> Iterator[tuple[RecipeTrial, psutil.Process]]:
    """A trial and its process."""
    before = set(psutil.Process().children())
    with RecipeTrial(config, str(store.path), Amount(6, 3)) as trial:
        # multiprocessing has a process of its own besides, which tracks semaphores.
        [process] = [new for new in psutil.Process().children() if new not in before and "spawn_main" in cmdline(new)]
        yield trial, process


def cmdline(process: psutil.Process) -> str:
    return " ".join(process.cmdline())


def test_a_trial_draws_the_loaders_crops_and_measures_real_steps(
    tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    # Data loading processes, and batch norm that only GPUs can synchronize.
    config = with_overrides(tiny_run, {"data.loader_processes": 1, "training.sync_bn": True})
    with trial_of(config, streets_store) as (trial, process):
        drawn, cost = trial.drawn(), trial.cost()
    reader, colours = streets_store.split("train"), streets_store.manifest.identity.colours
    assert (drawn.sample, drawn.size) == (reader.names[3], reader.sizes[3])
    for crop, expected in zip(drawn.crops, augmented_crops(reader, config, 3, colours, DRAWS), strict=True):
        np.testing.assert_array_equal(crop.image, expected.image)
        np.testing.assert_array_equal(crop.prior, expected.prior)
    measured = cost.measured
    parameters = sum(each.numel() for each in build_model(config.model).parameters())
    assert measured.parameters == parameters
    assert len(measured.steps) == TIMED
    assert min(*measured.steps, measured.first_step, measured.loading, measured.validating) > 0
    assert 0 <= measured.others <= 1
    # Weights, gradients, momentum and average are float32; torch alone would be more than 300 MB.
    assert 4 * 4 * parameters < measured.memory < 4 * 4 * parameters + 300_000_000
    assert not process.is_running()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no limit of a process's data")
def test_a_step_that_needs_more_memory_than_allowed_is_a_refusal_that_names_the_limit(
    tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    config = with_overrides(tiny_run, {"augmentation.crop": (512, 512)})
    with trial_of(config, streets_store) as (trial, process):
        trial.drawn()
        now = process.memory_info().data
        resource.prlimit(process.pid, resource.RLIMIT_DATA, (now + 90_000_000, resource.RLIM_INFINITY))
        with pytest.raises(CostError, match=r"no step of streets fits into the (\d+\.\d MB) that are free") as refused:
            trial.cost()
    assert "not even 2 crops of 512x512 at once" in str(refused.value)


def test_a_trial_that_the_kernel_kills_counts_as_out_of_memory(
    tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    with trial_of(tiny_run, streets_store) as (trial, process):
        process.send_signal(signal.SIGKILL)
        with pytest.raises(CostError, match="streets cannot be tried: the memory of this machine"):
            trial.drawn()


STARTER = """
import os, sys
from gscnn_platform.inspection.cost import RecipeTrial
from gscnn_platform.inspection.fitting import Amount
from gscnn_platform.recipes import STREETS
import psutil
RecipeTrial(STREETS, sys.argv[1], Amount(6, 3))
print(*(child.pid for child in psutil.Process().children()), flush=True)
os._exit(0)
"""


def test_a_trial_ends_with_the_process_that_started_it(streets_store: Store) -> None:
    command = [sys.executable, "-c", STARTER, str(streets_store.path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, encoding="utf-8") as starter:
        assert starter.stdout is not None
        children = [int(pid) for pid in starter.stdout.readline().split()]
    assert children
    ends = time.monotonic() + 60
    while any(is_alive(pid) for pid in children):
        assert time.monotonic() < ends
        time.sleep(0.2)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
