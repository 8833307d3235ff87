"""Exact binomial tests and bounds on a risk, for whole arrays at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

FloatArray = NDArray[np.float64]


def risk_p_values(errors: ArrayLike, kept: ArrayLike, alpha: ArrayLike) -> FloatArray:
    """P-value of "the risk is over `alpha`": P(Binomial(kept, alpha) ≤ errors).

    Valid for every risk over alpha, as the binomial's lower tail falls with its parameter. 1 where nothing
    is kept. Counts may be fractions, for planning; for whole numbers it is exact. Arguments broadcast.
    """
    errors, kept, alpha = (np.asarray(a, dtype=np.float64) for a in (errors, kept, alpha))
    room = np.maximum(kept - errors, np.finfo(np.float64).tiny)
    tail: FloatArray = special.betainc(room, errors + 1.0, 1.0 - alpha)
    return np.where(errors >= kept, 1.0, tail)


def risk_upper_bound(errors: ArrayLike, kept: ArrayLike, level: ArrayLike) -> FloatArray:
    """Clopper and Pearson's upper bound: the risk is at most this with probability at least 1 - `level`.

    It is at most alpha exactly where `risk_p_values` is at most `level`. 1 where nothing is kept.
    """
    errors, kept, level = (np.asarray(a, dtype=np.float64) for a in (errors, kept, level))
    room = np.maximum(kept - errors, np.finfo(np.float64).tiny)
    bound: FloatArray = special.betainccinv(errors + 1.0, room, level)
    return np.where(errors >= kept, 1.0, bound)
