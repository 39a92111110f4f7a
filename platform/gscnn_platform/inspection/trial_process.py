"""Tries a recipe: draws crops and takes a few steps, in a process whose memory is that of the steps alone."""

import io
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from gscnn_platform import machine
from gscnn_platform.config import ExperimentConfig, with_overrides
from gscnn_platform.data.disk_full import readable

if TYPE_CHECKING:
    import torch

    from gscnn_platform.data.store import Store
    from gscnn_platform.inspection.augmented import AugmentedCrop
    from gscnn_platform.training.worker import TrainingWorker

TIMED: Final = 3
"""Steps that are timed, after one that is not."""
ENOUGH_SECONDS: Final = 60.0
"""Seconds after which no further step begins."""
KEPT_FREE: Final = 0.1
"""Share of the free memory that the trial leaves to others on a CPU."""
UNENDING: Final = 10**6
"""Epochs: the trial ends before its last step, and does not validate between its steps."""
OUT_OF_MEMORY: Final = (
    "can't allocate memory",
    "Cannot allocate memory",
    "out of memory",
    "bad_alloc",
    "could not create a primitive",
)
"""Parts of the messages of torch, the system, C++ and oneDNN."""


@dataclass(frozen=True)
class Measured:
    """What a few steps of one worker took."""

    device: str
    parameters: int
    first_step: float
    """Seconds of the first step, which also prepares buffers and starts the loader processes."""
    steps: tuple[float, ...]
    """Seconds of each later step."""
    memory: int
    """Bytes: on a CPU the growth of the process from before the model was built to its peak in the steps, on a GPU
    what torch allocated there at most."""
    loading: float
    """Seconds for which one process loads a step's crops; 0 if the worker loads them itself."""
    validating: float
    """Seconds for a whole image of the validation."""
    others: float = 0.0
    """Share of the machine's cores that other processes used during the steps."""


@dataclass(frozen=True)
class Drawn:
    """Crops of a sample. The trial then waits for a sign to take its steps."""

    sample: str
    """Its name."""
    size: tuple[int, int]
    """Height and width in pixels."""
    crops: list["AugmentedCrop"]


@dataclass(frozen=True)
class Step:
    """A step was taken."""


@dataclass(frozen=True)
class Failed:
    """The trial ended without a result."""

    message: str
    """The error's, or what did not suffice, `the 4.0 GB that are free`, if it is one of memory."""
    is_memory: bool


Report = Drawn | Step | Measured | Failed


def try_recipe(config: ExperimentConfig, store: str, link: Connection) -> None:
    """Sends Drawn, waits for any object, takes steps, sends Step after each, and Measured; or Failed at any time.

    The target of a process.

    Args:
        config: the run's.
        store: path or URI of its data.
        link: to the parent process.
    """
    # Ctrl-C reaches the parent too, which says what there is to say.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # If the limit below does not hold, the kernel ends this process before any other.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        try:
            report = _report(config, store, link)
            link.send(report)
        except (EOFError, BrokenPipeError):
            return  # The parent has no use for it any more.


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _report(config: ExperimentConfig, store: str, link: Connection) -> Measured | Failed:
    import torch

    from gscnn_platform.data.store import open_store

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(machine.cores())
    memory = _GpuMemory() if device.type == "cuda" else _CpuMemory()
    try:
        tried = trial_config(config)
        opened = open_store(store, tried.data, config.model.num_classes)
        link.send(_drawn(config, opened))
        link.recv()
        memory.begin()
        return _measured(tried, opened, device, memory, lambda: link.send(Step()))
    except (EOFError, BrokenPipeError):
        raise
    except Exception as error:  # Whatever a training with this recipe would raise is the result.
        if isinstance(error, MemoryError) or any(part in str(error) for part in OUT_OF_MEMORY):
            return Failed(memory.available, is_memory=True)
        # torch's messages have traces of C++ below their first line.
        text = str(error) if isinstance(error, ValueError) else str(error).partition("\n")[0]
        return Failed(text or type(error).__name__, is_memory=False)


def _drawn(config: ExperimentConfig, store: "Store") -> Drawn:
    from gscnn_platform.data.held_out import training_samples
    from gscnn_platform.inspection.augmented import augmented_crops

    reader = training_samples(store, config.data)
    middle = len(reader) // 2
    crops = augmented_crops(reader, config, middle, store.manifest.identity.colours)
    return Drawn(reader.names[middle], reader.sizes[middle], crops)


def _measured(
    config: ExperimentConfig,
    store: "Store",
    device: "torch.device",
    memory: "_CpuMemory | _GpuMemory",
    tell: Callable[[], None],
) -> Measured:
    from gscnn_platform.data.loader import batches
    from gscnn_platform.training.worker import TrainingWorker

    worker = TrainingWorker(config, store, rank=0, world_size=1, device=device)
    cores = _Cores()
    seconds = _step_seconds(worker, tell)
    peak, others, loading = memory.peak(), cores.used_by_others(), 0.0
    if config.data.loader_processes:
        here = batches(worker.train_reader, with_overrides(config, {"data.loader_processes": 0}))
        next(here)
        loading = config.training.accumulate * _duration(lambda: next(here))
    # The first image also prepares buffers.
    validating = [_duration(lambda: _validate(worker)) for _ in range(2)][-1]
    return Measured(
        device=memory.device,
        parameters=sum(parameter.numel() for parameter in worker.model.parameters()),
        first_step=seconds[0],
        steps=tuple(seconds[1:]),
        memory=peak,
        loading=loading,
        validating=validating,
        others=others,
    )


def trial_config(config: ExperimentConfig) -> ExperimentConfig:
    """The config of a trial: one worker, weights that need no download, and no validation between the steps."""
    return with_overrides(
        config,
        {
            "num_workers": 1,
            "min_workers": None,
            "model.weights": None,
            "init.weights": None,
            "data.val_split": None,
            "data.val_share": 0.0,
            # One worker has nobody to synchronize with, and a CPU cannot.
            "training.sync_bn": False,
            "training.epochs": UNENDING,
            "training.validate_every": UNENDING,
            "training.validate_at_start": False,
        },
    )


def _step_seconds(worker: "TrainingWorker", tell: Callable[[], None]) -> list[float]:
    """Seconds of 1 + TIMED steps, or of those that ENOUGH_SECONDS allow."""
    from gscnn_platform.training.control import Control
    from gscnn_platform.training.step_signal import Signal

    times = [time.perf_counter()]

    def asked() -> Signal:
        _wait_for(worker.device)
        times.append(time.perf_counter())
        tell()
        enough = len(times) > 1 + TIMED or times[-1] - times[0] > ENOUGH_SECONDS
        return Signal.STOP if enough else Signal.GO_ON

    worker.train(lambda report: None, Control(worker.config.training, asked=asked))
    return [end - begin for begin, end in pairwise(times)]


def _validate(worker: "TrainingWorker") -> None:
    worker.val_reader = worker.train_reader.subset([0])
    worker.validate()
    _wait_for(worker.device)


def _duration(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _wait_for(device: "torch.device") -> None:
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


class _Cores:
    """The time of the machine's cores, from now on."""

    def __init__(self) -> None:
        self._before = self._times()

    def used_by_others(self) -> float:
        """Share of all cores' time that processes other than this one and its loader processes used."""
        every, busy, own = (after - before for before, after in zip(self._before, self._times(), strict=True))
        return max(0.0, busy - own) / every

    def _times(self) -> tuple[float, float, float]:
        of_machine = psutil.cpu_times()._asdict()  # Which times there are depends on the system.
        own = [process.cpu_times() for process in (psutil.Process(), *psutil.Process().children())]
        # Linux counts the time of guests in `user` as well.
        every = sum(seconds for name, seconds in of_machine.items() if not name.startswith("guest"))
        return (
            every,
            every - of_machine["idle"] - of_machine.get("iowait", 0.0),
            sum(times.user + times.system for times in own),
        )


class _GpuMemory:
    def __init__(self) -> None:
        import torch

        self.device = torch.cuda.get_device_name()
        self.available = f"the {readable(torch.cuda.mem_get_info()[0])} that are free on the {self.device}"

    def begin(self) -> None:
        import torch

        torch.cuda.reset_peak_memory_stats()

    def peak(self) -> int:
        """Bytes that torch allocated at most since the beginning."""
        import torch

        return torch.cuda.max_memory_allocated()


class _CpuMemory:
    """The growth of this process, which may use most of the machine's free memory and no more."""

    def __init__(self) -> None:
        self._process, self._before = psutil.Process(), 0
        self.device = f"CPU, {machine.cores()} core{'s' if machine.cores() > 1 else ''}"
        self.available = "what is free on this machine"

    def begin(self) -> None:
        memory = self._process.memory_info()
        self._before = memory.rss
        if sys.platform == "linux":
            # Without it the kernel kills a process, not always this one, and no error says what was too large.
            free = int((1 - KEPT_FREE) * machine.free_memory())
            now = resource.getrlimit(resource.RLIMIT_DATA)
            limit = min(limit for limit in (memory.data + free, *now) if limit != resource.RLIM_INFINITY)
            resource.setrlimit(resource.RLIMIT_DATA, (limit, now[1]))
            self.available = f"the {readable(max(0, limit - memory.data))} that are free on this machine"

    def peak(self) -> int:
        """Bytes of growth from the beginning to the peak."""
        return _peak() - self._before


def _peak() -> int:
    """Bytes of this process at its peak."""
    if sys.platform == "linux":
        # A new process inherits the peak that getrusage gives from the one that started it.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # In bytes on macOS.
