"""Shared by all benchmarks: the line above the figures, the table, a stopwatch."""

import os
import platform
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch


def describe() -> str:
    """Commit, machine and versions, in one line."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return f"commit {_commit()} · {device} · torch {torch.__version__} · Python {platform.python_version()}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; floats have three significant figures."""
    lines = [header, ["---"] * len(header), *([_shown(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def milliseconds(way: Callable[[], object], calls: int) -> float:
    """Median duration of `calls` calls."""
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        way()
        times.append(time.perf_counter() - began)
    return float(np.median(times)) * 1e3


def _shown(cell: object) -> str:
    if not isinstance(cell, float):
        return str(cell)
    # From 999.5, `.3g` would write 1e+03.
    return f"{cell:.3g}" if abs(cell) < 999.5 else f"{cell:.0f}"


def _commit() -> str:
    """The checkout's commit; GSCNN_GIT_COMMIT if there is no .git or no git, as on a machine that code is copied to."""
    try:
        command = ["git", "describe", "--always", "--dirty"]
        found = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False, encoding="utf-8"
        ).stdout
    except FileNotFoundError:
        found = ""
    return found.strip() or os.environ.get("GSCNN_GIT_COMMIT", "unknown")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return f"{line.partition(':')[2].strip()}, {torch.get_num_threads()} threads"
    return platform.machine()
