"""The jobs of `python -m jobs.X` and `ray job submit -- python -m jobs.X`, run with the packages of this checkout."""

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_ROOT), str(_ROOT / "platform")]

# "-m" while Python locates the job; a process that imports a job keeps its own signal handlers.
if sys.argv[0] == "-m":
    from gscnn_platform.interrupts import end_at_once

    end_at_once()

from gscnn_platform.machine import prepare_process  # noqa: E402 - found only through the path above

prepare_process()
