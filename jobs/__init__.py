"""What `python -m jobs.X` and `ray job submit -- python -m jobs.X` run, with the packages of this checkout."""

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_ROOT), str(_ROOT / "platform")]
