"""How long commands take, in CPU seconds and wall-clock seconds: help, mistakes, starts, a busy machine.

    python -m benchmarks.start --store STREETS_STORE --camvid CAMVID_ROOT [--checkpoint RUN]
        [--only commands precompute first-step first-image busy]

CPU seconds include all processes that the command waits for, and hold on a machine that others use. Commands that are
compared take turns in one run.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import cv2
import psutil

from benchmarks.environment import describe, markdown_table
from gscnn_platform.data.store import open_store

JOBS = ("train", "sweep", "precompute", "evaluate", "predict", "export", "compare", "verify", "sync-tracking")
HELP_SECONDS, CHECK_SECONDS, FIRST_IMAGE_SECONDS = 1.2, 3.0, 5.0
"""Targets, in CPU seconds."""
ENDED = re.compile(r"epoch 1/|first step")
"""Text of the first line after an optimizer step."""


@dataclass(frozen=True)
class Cost:
    """Cost of one command."""

    cpu: float
    wall: float
    status: int
    output: str


def run(command: Sequence[str]) -> Cost:
    """Runs a command to its end."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        return Cost(usage.ru_utime + usage.ru_stime, wall, process.returncode, output.read())


def job(name: str, *words: object) -> list[str]:
    return [sys.executable, "-m", f"jobs.{name}", *map(str, words)]


def of_commands(store: Path, folder: Path, repeats: int) -> list[tuple[str, ...]]:
    """Help and mistakes: one row per kind, with its most expensive command."""
    used = folder / "runs" / "used"
    used.mkdir(parents=True)
    (used / "something").touch()
    given = ("--store", store, "--storage", folder / "runs")
    kinds = {
        "`--help` of every job": (HELP_SECONDS, [job(name, "--help") for name in JOBS]),
        "misspelt flag, wrong value, unknown recipe": (
            HELP_SECONDS,
            [
                job("train", "streets", "--lss.edge", 3),
                job("train", "streets", "--training.epochs", 0),
                job("train", "strets"),
                job("sweep", "streets", "--store", store, "--space", "los"),
                job("evaluate", "--chekpoint", "x"),
            ],
        ),
        "missing or stale store, used run name, wrong class count, wrong URI": (
            CHECK_SECONDS,
            [
                job("train", "streets", "--store", folder / "nowhere"),
                job("train", "streets", *given, "--data.edges.radius", 5),
                job("train", "streets", *given, "--run-name", "used"),
                job("train", "camvid-tiny", *given),
                job("train", "streets", *given, "--tracking.uri", "htp://nowhere"),
                job("sweep", "streets", *given, "--space", "loss-small", "--data.edges.radius", 5),
            ],
        ),
    }
    rows = []
    for kind, (target, commands) in kinds.items():
        costs = [[run(command) for _ in range(repeats)] for command in commands]
        for command, of_command in zip(commands, costs, strict=True):
            helps = "--help" in command
            assert all((cost.status == 0) == helps for cost in of_command), (command, of_command[0].output)
        cpus = [median(cost.cpu for cost in of_command) for of_command in costs]
        walls = [median(cost.wall for cost in of_command) for of_command in costs]
        rows.append((kind, f"{min(cpus):.2f} to {max(cpus):.2f}", f"{max(walls):.2f}", f"under {target} CPU s"))
    return rows


def of_precompute(camvid: Path, folder: Path) -> list[tuple[str, ...]]:
    cost = run(job("precompute", "camvid", "--root", camvid, "--out", folder / "camvid"))
    assert cost.status == 0, cost.output
    return [("`jobs.precompute camvid`", f"{cost.cpu:.0f} (the driver's)", f"{cost.wall:.1f}", "under 30 s wall")]


def until_first_step(command: Sequence[str], folder: Path) -> float:
    """Seconds from the command to its first optimizer step; then ends it."""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": ""}
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        cwd=folder,
        env=environment,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if ENDED.search(line):
            seconds = time.perf_counter() - began
            process.send_signal(signal.SIGINT)
            process.stdout.read()
            process.wait()
            return seconds
    raise RuntimeError("".join(lines))


def of_first_step(store: Path, folder: Path, repeats: int) -> list[tuple[str, ...]]:
    ours, bare = [], []
    once = ("--training.no-validate-at-start", "--training.log-every", 1, "--num-workers", 1)
    for number in range(repeats):
        name = ("--run-name", f"first-{number}", "--storage", folder / "runs")
        bare.append(until_first_step([sys.executable, "-m", "benchmarks.bare_train"], Path.cwd()))
        ours.append(until_first_step(job("train", "streets", "--store", store, *once, *name), Path.cwd()))
    ratio = median(mine / other for mine, other in zip(ours, bare, strict=True))
    return [
        (
            "first step of `jobs.train streets --num-workers 1` over a bare Ray Train script's",
            f"{ratio:.2f} times",
            f"{median(ours):.1f} and {median(bare):.1f}",
            "under 1.25 times",
        )
    ]


def cpu_until(command: Sequence[str], mark: re.Pattern[bytes]) -> float:
    """CPU seconds of a command and its child processes until a text appears in its output; then ends it."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    seen, screen = b"", process.stdout.fileno()
    while not mark.search(seen):
        text = os.read(screen, 4096)
        if not text:
            raise RuntimeError(seen.decode())
        seen += text
    family = [psutil.Process(process.pid)]
    family += family[0].children(recursive=True)
    seconds = sum(sum(each.cpu_times()[:2]) for each in family)
    process.send_signal(signal.SIGINT)
    process.stdout.read()
    process.wait()
    return seconds


def of_first_image(store: Path, checkpoint: Path, folder: Path, repeats: int) -> list[tuple[str, ...]]:
    """evaluate and predict until the progress bar moves, in addition to the import of torch and torchvision."""
    images = folder / "images"
    images.mkdir()
    reader = open_store(store).split("val")
    for index in range(4):
        cv2.imwrite(str(images / f"{index}.png"), reader.read(index).image[..., ::-1])
    given = ("--checkpoint", checkpoint)
    ways = {
        "`jobs.evaluate`": job("evaluate", *given, "--store", store, "--report", folder / "page.html"),
        "`jobs.predict`": job("predict", *given, "--input", images, "--out", folder / "out", "--overwrite"),
    }
    rows = []
    for name, command in ways.items():
        beyond = []
        for _ in range(repeats):
            imports = run([sys.executable, "-c", "import torch, torchvision"]).cpu
            total = 4 if "predict" in name else len(reader)
            beyond.append(cpu_until(command, re.compile(rb" [1-9]\d*/%d \[" % total)) - imports)
        figure = f"{median(beyond):.1f}"
        rows.append((f"{name} to the first image, beyond torch and torchvision", figure, "", "under 5 CPU s"))
    return rows


def images_per_second(store: Path, folder: Path, name: str, seconds: float) -> float:
    """Median over the progress lines of a training that lasts `seconds`."""
    command = job("train", "streets", "--store", store, "--training.no-validate-at-start", "--training.log-every", 5)
    process = subprocess.Popen(
        [*command, "--run-name", name, "--storage", str(folder / "runs")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )
    assert process.stdout is not None
    speeds: list[float] = []
    began = None
    for line in process.stdout:
        found = re.search(r"([\d.]+) images/s", line)
        if found:
            began = began or time.perf_counter()
            speeds.append(float(found[1]))
        if began and time.perf_counter() - began > seconds:
            process.send_signal(signal.SIGINT)
            break
    process.stdout.read()
    process.wait()
    return median(speeds[1:])


def of_busy(store: Path, folder: Path, repeats: int, seconds: float) -> list[tuple[str, ...]]:
    """Alone and beside one busy process, in turn."""
    pairs = []
    for number in range(repeats):
        quiet = images_per_second(store, folder, f"quiet-{number}", seconds)
        other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            busy = images_per_second(store, folder, f"busy-{number}", seconds)
        finally:
            other.kill()
        pairs.append((quiet, busy))
    share = median(busy / quiet for quiet, busy in pairs)
    speeds = f"{median(busy for _, busy in pairs):.1f} and {median(quiet for quiet, _ in pairs):.1f} images/s"
    return [
        (
            "`streets` beside one busy process, over quiet",
            f"{share:.2f}",
            speeds,
            "over 0.45 (one of two cores is half)",
        )
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True, help="store of streets")
    parser.add_argument("--camvid", type=Path, help="root of the raw CamVid")
    parser.add_argument(
        "--checkpoint", type=Path, help="checkpoint of a training on the store, for jobs.evaluate and jobs.predict"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=40, help="length of each training, quiet and busy")
    parser.add_argument("--only", nargs="*", default=["commands", "precompute", "first-step", "first-image", "busy"])
    arguments = parser.parse_args()
    store, folder = arguments.store.resolve(), Path(tempfile.mkdtemp(prefix="gscnn-start-"))
    try:
        rows: list[tuple[str, ...]] = []
        if "commands" in arguments.only:
            rows += of_commands(store, folder, arguments.repeats)
        if "precompute" in arguments.only and arguments.camvid:
            rows += of_precompute(arguments.camvid.resolve(), folder)
        if "first-step" in arguments.only:
            rows += of_first_step(store, folder, arguments.repeats)
        if "first-image" in arguments.only and arguments.checkpoint:
            rows += of_first_image(store, arguments.checkpoint.resolve(), folder, arguments.repeats)
        if "busy" in arguments.only:
            rows += of_busy(store, folder, arguments.repeats, arguments.seconds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(describe())
    print(markdown_table(("figure", "CPU seconds, or ratio", "wall seconds", "target"), rows))


if __name__ == "__main__":
    main()
