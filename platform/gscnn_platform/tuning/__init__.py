"""Hyperparameter sweeps. The only package, with search_spaces' domains as text, that imports ray.tune."""

from gscnn_platform.tuning.config import SweepConfig, SweepError
from gscnn_platform.tuning.sweep import SweepResult, run_sweep

__all__ = ["SweepConfig", "SweepError", "SweepResult", "run_sweep"]
