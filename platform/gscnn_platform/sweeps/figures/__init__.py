"""Figures of a sweep, drawn from plain data; higher scores are better."""

from gscnn_platform.sweeps.figures.pictures import draw_sweep
from gscnn_platform.sweeps.figures.points import TrialPoint

__all__ = ["TrialPoint", "draw_sweep"]
