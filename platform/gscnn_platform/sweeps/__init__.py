"""Hyperparameter sweeps: search spaces, searchers, trials, the driver and its board. Only it imports ray.tune.

__init__.pyi lists the names. Each is imported on first use: SweepConfig and search spaces need no Ray.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
