"""Whether scores are distributed as in calibration: evidence that may be looked at any time.

Both hypotheses are Dirichlet-multinomial (Jeffreys' prior, 1/2 for each bin): under "as in calibration" the
calibration's counts are added to the prior. Their ratio is a Bayes factor; under the first it is a martingale of mean
1, so it ever reaches 1/δ with probability at most δ (Ville), averaged over that prior.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

_PRIOR = 0.5


def log_evidence_of_drift(calibration: ArrayLike, field: ArrayLike) -> float:
    """The evidence's natural logarithm, from counts by bin [bins]."""
    calibrated, seen = np.asarray(calibration, np.float64), np.asarray(field, np.float64)
    prior = np.full_like(calibrated, _PRIOR)
    return _log_probability(seen, prior) - _log_probability(seen, prior + calibrated)


def share_moved(calibration: ArrayLike, field: ArrayLike) -> float:
    """Total variation distance of the two shares by bin: what part of the requests lies in another bin."""
    calibrated, seen = np.asarray(calibration, np.float64), np.asarray(field, np.float64)
    if not calibrated.sum() or not seen.sum():
        return 0.0
    return float(np.abs(calibrated / calibrated.sum() - seen / seen.sum()).sum() / 2.0)


def _log_probability(counts: NDArray[np.float64], prior: NDArray[np.float64]) -> float:
    """Of one sequence with these counts, under Dirichlet-multinomial."""
    whole = special.gammaln(prior.sum()) - special.gammaln(prior.sum() + counts.sum())
    return float(whole + (special.gammaln(prior + counts) - special.gammaln(prior)).sum())
