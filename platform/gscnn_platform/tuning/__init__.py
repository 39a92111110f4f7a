"""Hyperparameter sweeps. The only package, with search_spaces' domains as text, that imports ray.tune.

The names are those of __init__.pyi. Each is imported when it is used: SweepConfig needs no Ray.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
