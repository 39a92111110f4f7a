from .config import SweepConfig, SweepError
from .driver import SweepResult
from .search_spaces import SEARCH_SPACES, find_space
from .space import SearchSpace, with_sets
from .start import run_sweep

__all__ = [
    "SEARCH_SPACES",
    "SearchSpace",
    "SweepConfig",
    "SweepError",
    "SweepResult",
    "find_space",
    "run_sweep",
    "with_sets",
]
