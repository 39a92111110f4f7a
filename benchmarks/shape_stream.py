"""CPU seconds of the shape stream and of a whole `streets` step on one core, against an earlier commit's stream.

    taskset -c 0 python -m benchmarks.shape_stream [--against COMMIT] [--rounds 9] [--profile] [--keep-memory]

Forward and backward, 4 images: the shape stream alone on the taps of a ResNet-18 at 192x256, a quarter as wide as the
paper's, and the step of recipe `streets` at 96x128 with losses and optimizer. The stream of COMMIT is read from git and
takes the place of today's in an equal model, with the same weights. All variants take turns; figures are the medians of
CPU seconds, which other processes on the machine disturb less than wall time, and ratios are medians over the rounds.

"channels_last" is how the platform trains (`training.channels_last`), and "default" how it evaluates. Training also
keeps freed memory (`machine.keep_freed_memory`); it cannot be undone in a process, so it takes a run of its own.
"""

import argparse
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch.autograd.profiler import profile

from benchmarks.environment import describe, markdown_table
from benchmarks.stepper import StepConfig, Stepper
from benchmarks.train_step import drawn_batch
from gscnn import shape_stream
from gscnn.backbones.taps import Taps
from gscnn.batch import SegBatch
from gscnn.model import GatedSCNN
from gscnn_platform import machine
from gscnn_platform.recipes import STREETS

BEFORE = "e69f6df"
IMAGES, WIDTHS = 4, (16, 16, 8, 8)
LAYOUTS = {"default": torch.contiguous_format, "channels_last": torch.channels_last}


def module_of(commit: str) -> ModuleType:
    """gscnn.shape_stream as it was at `commit`."""
    name = "gscnn/shape_stream.py"
    root = Path(__file__).parents[1]
    source = subprocess.run(
        ["git", "show", f"{commit}:{name}"], cwd=root, check=True, capture_output=True, encoding="utf-8"
    )
    module = ModuleType(f"shape_stream_{commit}")
    exec(compile(source.stdout, f"{commit}:{name}", "exec"), module.__dict__)
    return module


def stream_alone(module: ModuleType, layout: torch.memory_format, stride: int = 1) -> Callable[[], None]:
    """Forward and backward on taps as a ResNet-18 at output stride 16 gives them."""
    torch.manual_seed(0)
    channels, strides, height, width = Taps(64, 64, 128, 256, 512), (2, 4, 8, 16, 16), 192, 256
    stream = module.ShapeStream(channels, WIDTHS, **({"stride": stride} if stride > 1 else {}))
    stream = stream.to(memory_format=layout).train()
    sizes = [(IMAGES, count, height // step, width // step) for count, step in zip(channels, strides, strict=True)]
    taps = Taps(*(torch.randn(size).contiguous(memory_format=layout).requires_grad_() for size in sizes))
    prior = torch.rand(IMAGES, 1, height, width)
    ends = (torch.randn_like(prior), torch.randn_like(prior))
    return lambda: torch.autograd.backward(tuple(stream(taps, prior)), ends)


def streets_step(module: ModuleType, channels_last: bool, stride: int = 1) -> Callable[[], torch.Tensor]:
    """A step of recipe `streets` on a drawn batch."""
    model = STREETS.model.model_copy(update={"shape_stride": stride})
    stepper = Stepper(StepConfig(model, STREETS.loss, channels_last=channels_last), torch.device("cpu"))
    network, (height, width) = stepper.model, STREETS.augmentation.crop
    assert isinstance(network, GatedSCNN)
    if module is not shape_stream:
        replaced = module.ShapeStream(network.regular_stream.channels, model.shape_widths)
        replaced.load_state_dict(network.shape_stream.state_dict())
        replaced.to(memory_format=stepper.memory_format)
        # The optimizer keeps its parameters: the replacement shares them.
        for name, parameter in network.shape_stream.named_parameters():
            owner, _, leaf = name.rpartition(".")
            setattr(replaced.get_submodule(owner), leaf, parameter)
        network.shape_stream = replaced
    square = drawn_batch(0, IMAGES, max(height, width), model.num_classes)
    parts = (square.image, square.label, square.gradient, square.boundary)
    batch = stepper.place(SegBatch(*(part[..., :height, :width].contiguous() for part in parts)))
    return lambda: stepper.step(batch)


def in_turns(ways: dict[str, Callable[[], object]], rounds: int) -> list[list[object]]:
    """Rows of name, median CPU seconds, and the first way's over it; every way runs twice before."""
    for way in ways.values():
        way()
        way()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.process_time()
            way()
            seconds[name].append(time.process_time() - began)
    first = np.array(next(iter(seconds.values())))
    return [
        [name, float(np.median(taken)), float(np.median(first / np.array(taken)))] for name, taken in seconds.items()
    ]


def top_operations(way: Callable[[], object], count: int = 8) -> str:
    """The operations that take most of one call's time."""
    profiled = profile()
    with profiled:
        way()
    events = sorted(profiled.key_averages(), key=lambda event: event.self_cpu_time_total, reverse=True)[:count]
    rows = [[event.key, event.self_cpu_time_total / 1e3, event.count] for event in events]
    return markdown_table(["operation", "ms", "calls"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", default=BEFORE, help="commit whose shape stream is the baseline")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--profile", action="store_true", help="also list the slowest operations before and after")
    parser.add_argument("--keep-memory", action="store_true", help="keep freed memory, as a training worker does")
    arguments = parser.parse_args()
    if arguments.keep_memory:
        machine.keep_freed_memory()
    torch.set_num_threads(1)
    before = module_of(arguments.against)
    streams = {
        f"{title}, {layout}": stream_alone(module, memory_format)
        for layout, memory_format in LAYOUTS.items()
        for title, module in ((arguments.against, before), ("now", shape_stream))
    }
    steps = {
        f"{title}, {layout}": streets_step(module, layout == "channels_last")
        for layout in LAYOUTS
        for title, module in ((arguments.against, before), ("now", shape_stream))
    }
    strided = "now, channels_last, shape_stride 2"
    streams[strided] = stream_alone(shape_stream, torch.channels_last, stride=2)
    steps[strided] = streets_step(shape_stream, channels_last=True, stride=2)
    print(
        f"{describe()} · CPU seconds on one thread, medians of {arguments.rounds} rounds"
        f"{' · freed memory is kept' if arguments.keep_memory else ''}\n"
    )
    header = ["CPU seconds", "times the first's speed"]
    print(markdown_table(["shape stream, 192x256", *header], in_turns(dict(streams), arguments.rounds)), end="\n\n")
    print(markdown_table(["`streets` step, 96x128", *header], in_turns(dict(steps), arguments.rounds)))
    if arguments.profile:
        for name in (f"{arguments.against}, channels_last", "now, channels_last"):
            print(f"\nSlowest operations of the shape stream, {name}:\n\n{top_operations(streams[name])}")


if __name__ == "__main__":
    main()
