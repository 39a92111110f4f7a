"""What the metrics share as counts: which of them may be merged, quotients, means over classes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64, Shaped


def require_equal_settings(metric: object, other: object, fields: tuple[str, ...]) -> None:
    """Raises ValueError if a field differs: only counts of equal settings add."""
    for field in fields:
        mine, its = vars(metric)[field], vars(other)[field]
        if mine != its:
            raise ValueError(f"{field} is {mine} here and {its} in the other: only equal settings can be merged")


def quotients(sums: Shaped[np.ndarray, " K"], counts: Int64[np.ndarray, " K"]) -> Float64[np.ndarray, " K"]:
    """`sums` divided by `counts`; NaN if nothing was counted."""
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def mean_of_known(values: Float64[np.ndarray, " K"]) -> float:
    """Mean that ignores NaN; NaN if there is nothing else."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
