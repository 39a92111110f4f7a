"""The jobs of `python -m jobs.X` and `ray job submit -- python -m jobs.X`, run with the packages of this checkout."""

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_ROOT), str(_ROOT / "platform")]

# Python's mark while it looks for the job; whoever imports one keeps signal handlers of its own.
if sys.argv[0] == "-m":
    from gscnn_platform.interrupts import end_at_once

    end_at_once()

from gscnn_platform.machine import prepare_process  # noqa: E402 - it is found by the path above alone

prepare_process()
