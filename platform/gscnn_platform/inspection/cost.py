"""What a recipe would cost on a dataset: memory, time and parameters, from a few steps on this machine."""

import multiprocessing
import signal
import sys
import time
from dataclasses import dataclass
from typing import Final, NoReturn, Self

from pydantic import ValidationError
from tqdm import tqdm

from gscnn_platform import machine
from gscnn_platform.activity import doing
from gscnn_platform.config import ExperimentConfig, with_overrides
from gscnn_platform.data.disk_full import readable
from gscnn_platform.inspection.fitting import Amount
from gscnn_platform.inspection.trial_process import TIMED, Drawn, Failed, Measured, Report, Step, try_recipe
from gscnn_platform.interrupts import tell

PATIENCE_SECONDS: Final = 300.0
"""Seconds that a trial may take for a step."""
LOOK_SECONDS: Final = 1.0
"""Seconds between updates of the elapsed time in a terminal."""
BUSY: Final = 0.2
"""Share of the cores, used by other processes, above which the page says so."""
END_SECONDS: Final = 10.0
"""Seconds that a trial gets to end by itself."""


class CostError(ValueError):
    """The cost cannot be measured on this machine; the message says why, and what to do."""


@dataclass(frozen=True)
class Cost:
    """The cost of a run with one worker on this machine."""

    config: ExperimentConfig
    """The run's; `training.accumulate` is more than the recipe's if its batches did not fit into memory."""
    amount: Amount
    measured: Measured
    did_not_fit: str = ""
    """What did not fit into memory; empty if all did."""

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return -(-self.amount.training // self.config.training.batch_size)

    @property
    def step_seconds(self) -> float:
        """Seconds of a step: the mean of those timed, or the time to load its crops if that takes longer."""
        timed = self.measured.steps or (self.measured.first_step,)
        return max(sum(timed) / len(timed), self._loading)

    @property
    def epoch_seconds(self) -> float:
        """Seconds of an epoch without validation."""
        return self.steps * self.step_seconds

    @property
    def validations(self) -> int:
        """Validations of a whole run."""
        training = self.config.training
        if not self.amount.validation:
            return 0
        return -(-training.epochs // training.validate_every) + int(training.validate_at_start)

    @property
    def validation_seconds(self) -> float:
        """Seconds of one validation."""
        return self.amount.validation * self.measured.validating

    @property
    def run_seconds(self) -> float:
        """Seconds of a whole run, with validations."""
        return self.config.training.epochs * self.epoch_seconds + self.validations * self.validation_seconds

    @property
    def _loading(self) -> float:
        """Seconds for which the loader processes load a step's crops."""
        processes = self.config.data.loader_processes
        return self.measured.loading / min(processes, machine.cores()) if processes else 0.0

    @property
    def sentence(self) -> str:
        """`one worker on this machine (CPU, 2 cores): 1.8 s a step, 45 steps an epoch, about 81 s an epoch, ...`"""
        epochs = self.config.training.epochs
        with_validation = (
            f", with {self.validations} validations of {roughly(self.validation_seconds)} each"
            if self.validations
            else ""
        )
        return (
            f"one worker on this machine ({self.measured.device}): {roughly(self.step_seconds)} a step, {self.steps} "
            f"steps an epoch, about {roughly(self.epoch_seconds)} an epoch, {epochs} epochs in "
            f"{roughly(self.run_seconds)}{with_validation}; {readable(self.measured.memory)}"
        )

    @property
    def notes(self) -> list[str]:
        """What the numbers are, and what limits the speed."""
        on_cpu, training = self.measured.device.startswith("CPU"), self.config.training
        timed, height_width = len(self.measured.steps), "x".join(map(str, self.config.augmentation.crop))
        images = self.config.images_per_batch
        what = f"{images} crops of {height_width}"
        if training.accumulate > 1:
            what += f", {training.accumulate} times"
        notes = [
            f"A step takes {what}: "
            + (
                f"the mean of {timed} steps after one that prepares buffers."
                if timed
                else "one step was timed, which also prepares buffers, because it took so long."
            ),
            "Memory is the growth of the training process from before the model is built to the peak of these steps."
            if on_cpu
            else "Memory is what torch allocates on the GPU at most; CUDA itself takes about 0.5 GB more.",
        ]
        if self.measured.others > BUSY:
            notes.append(
                f"Other processes used {self.measured.others:.0%} of this machine's cores meanwhile: on a quiet "
                "machine a step is faster."
            )
        if self.config.data.loader_processes:
            notes.append(
                f"Its {self.config.data.loader_processes} loader processes are not counted; one alone would load a "
                f"step's crops in {roughly(self.measured.loading)}."
            )
            if self._loading >= self.step_seconds:
                notes.append("Loading takes longer than computing: more CPU cores would make a step faster.")
        return notes


def roughly(seconds: float) -> str:
    """Returns seconds as a rounded text: `0.034 s`, `1.8 s`, `81 s`, `54 min`, `7.5 h`, `12 days`."""
    for unit, size, enough in (("s", 1.0, 120.0), ("min", 60.0, 7200.0), ("h", 3600.0, 172_800.0)):
        if seconds < enough:
            return f"{_two_digits(seconds / size)} {unit}"
    return f"{_two_digits(seconds / 86400)} days"


def _two_digits(number: float) -> str:
    return f"{number:.0f}" if number >= 10 else f"{number:.2g}"


class RecipeTrial:
    """Tries a recipe in a process of its own, which starts to load torch at once.

    Args:
        config: the run's, fitted to the dataset.
        store: path or URI of samples of the dataset.
        amount: samples of the whole dataset.
    """

    def __init__(self, config: ExperimentConfig, store: str, amount: Amount) -> None:
        self.config, self.store, self.amount = config, store, amount
        self._process = _TrialProcess(config, store)
        self._drawn: Drawn | None = None

    def drawn(self) -> Drawn:
        """Returns crops of a sample, once torch is loaded.

        Raises:
            CostError: none could be drawn.
        """
        if self._drawn is None:
            with doing(f"loading torch to try {self.config.name}"):
                report = self._process.next()
            if isinstance(report, Failed):
                raise CostError(f"{self.config.name} cannot be tried: {report.message}")
            assert isinstance(report, Drawn)
            self._drawn = report
        return self._drawn

    def cost(self) -> Cost:
        """Takes a few steps, with a progress bar; with smaller batches if a batch does not fit into memory.

        Raises:
            CostError: no step could be taken.
        """
        self.drawn()
        config, did_not_fit = self.config, ""
        while True:
            report = self._process.steps()
            if isinstance(report, Measured):
                return Cost(config, self.amount, report, did_not_fit)
            if not report.is_memory:
                raise CostError(f"no step of {config.name} could be taken: {report.message}")
            images, crop = config.images_per_batch, "x".join(map(str, config.augmentation.crop))
            did_not_fit = did_not_fit or f"{images} crops of {crop} at once do not fit into {report.message}"
            try:
                config = with_overrides(config, {"training.accumulate": 2 * config.training.accumulate})
            except ValidationError:
                raise CostError(
                    f"no step of {config.name} fits into {report.message}, not even {images} crops of {crop} at once\n"
                    "train on a machine with more memory, or on smaller crops: --augmentation.crop "
                    f"{config.augmentation.crop[0] // 2} {config.augmentation.crop[1] // 2}"
                ) from None
            tell(f"{images} crops at once do not fit into memory: trying {config.images_per_batch}")
            self._process.close()
            self._process = _TrialProcess(config, self.store)
            self._drawn = None
            self.drawn()

    def close(self) -> None:
        """Ends the process."""
        self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _TrialProcess:
    """A process that runs `try_recipe`."""

    def __init__(self, config: ExperimentConfig, store: str) -> None:
        self.name, self._busy = config.name, False
        spawn = multiprocessing.get_context("spawn")
        self._link, theirs = spawn.Pipe()
        self._process = spawn.Process(target=try_recipe, args=(config, store, theirs))
        self._process.start()
        theirs.close()

    def steps(self) -> Measured | Failed:
        """Lets the process take its steps, and returns its result."""
        self._link.send(None)
        self._busy = True
        with tqdm(total=1 + TIMED, desc=f"steps of {self.name}", unit=" steps") as bar:
            while isinstance(report := self.next(bar), Step):
                bar.update()
        self._busy = False
        assert not isinstance(report, Drawn)
        return report

    def next(self, bar: "tqdm[NoReturn] | None" = None) -> Report:
        """Returns the next report of the process, or that it failed."""
        began = time.monotonic()
        while not self._link.poll(LOOK_SECONDS):
            if time.monotonic() - began > PATIENCE_SECONDS:
                self._process.kill()
                return Failed(f"it took more than {PATIENCE_SECONDS:.0f} s on this machine", is_memory=False)
            if bar is not None and sys.stderr.isatty():
                bar.refresh()  # Shows the elapsed time of a step that takes long.
        try:
            return self._link.recv()
        except EOFError:
            self._process.join()
            status = self._process.exitcode
            if status == -signal.SIGKILL:
                # What the kernel does to a process when memory is exhausted.
                return Failed("the memory of this machine", is_memory=True)
            return Failed(f"its process ended with status {status}", is_memory=False)

    def close(self) -> None:
        """Ends the process: in the middle of a step at once, and otherwise as soon as it hears that nobody waits."""
        self._link.close()
        self._process.join(0 if self._busy else END_SECONDS)
        self._process.kill()
        self._process.join()
