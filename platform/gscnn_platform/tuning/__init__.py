"""Hyperparameter sweeps. The only package, with search_spaces' domains as text, that imports ray.tune.

__init__.pyi lists the names. Each is imported on first use: SweepConfig needs no Ray.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
