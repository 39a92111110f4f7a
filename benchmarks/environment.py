"""What every benchmark prints above its figures, and how it prints them."""

import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

import torch


def describe() -> str:
    """Commit, machine and versions, one line."""
    root = Path(__file__).parent
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, check=False
    ).stdout.strip()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return f"commit {commit or 'unknown'} · {device} · torch {torch.__version__} · Python {platform.python_version()}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; floats with three significant figures."""
    cells = [
        [
            f"{cell:.3g}"
            if isinstance(cell, float) and cell < 1000
            else f"{cell:.0f}"
            if isinstance(cell, float)
            else str(cell)
            for cell in row
        ]
        for row in rows
    ]
    lines = [header, ["---"] * len(header), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f"{line.partition(':')[2].strip()}, {torch.get_num_threads()} threads"
    return platform.machine()
