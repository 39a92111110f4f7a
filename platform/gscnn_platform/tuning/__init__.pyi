from .config import SweepConfig, SweepError
from .start import run_sweep
from .sweep import SweepResult

__all__ = ["SweepConfig", "SweepError", "SweepResult", "run_sweep"]
