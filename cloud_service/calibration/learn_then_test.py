"""Learn then Test (Angelopoulos et al., arXiv 2110.01052) for a gate's threshold and a whole grid of alphas.

For each alpha there is a chain of hypotheses "the risk at threshold λ is over alpha", from strict to loose,
tested in that order by exact binomial p-values until one is not rejected (fixed-sequence testing). The
risk is the share of wrong answers among the kept ones, or of kept and wrong ones among all.
The chain's start and all its thresholds come from other data.

That holds for one alpha. For thresholds of the whole grid to hold *at once*, so that an operator may choose
among them after looking, all chains form one graph of hypotheses (Bretz et al. 2009, doi 10.1002/sim.3495;
section 4 of the paper above): delta is shared among the chains' starts beforehand; a rejected hypothesis
hands its share to the next looser one of its chain; a chain that is rejected to its end hands its share to the
start of the next smaller alpha. Such a procedure rejects any true hypothesis with probability at most delta,
however the tests depend on each other. Last, a threshold good for one alpha is good for every larger one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cloud_service.calibration.binomial import risk_p_values, risk_upper_bound
from cloud_service.calibration.risk_curve import RiskCurve

_PIECE = 512


@dataclass(frozen=True)
class CertifiedStep:
    """The loosest threshold certified for `alpha`, by its index; None where none is.

    `level` is the share of delta at which it was tested; `risk_bound` the upper bound at that level.
    """

    alpha: float
    index: int | None
    level: float
    risk_bound: float


def share_delta(alphas: Sequence[float], delta: float, favourite: float, favourite_share: float) -> list[float]:
    """Delta's share for each alpha: `favourite_share` of it for the one in force from the start, the rest evenly."""
    others = sum(1 for alpha in alphas if alpha != favourite)
    if others == 0:
        return [delta] * len(alphas)
    if others == len(alphas):
        return [delta / others] * len(alphas)
    return [delta * (favourite_share if alpha == favourite else (1.0 - favourite_share) / others) for alpha in alphas]


def certify(
    curve: RiskCurve, alphas: Sequence[float], starts: Sequence[int], levels: Sequence[float]
) -> list[CertifiedStep]:
    """Test every chain on the calibration part; `curve.thresholds` run from strict to loose.

    `starts` and `levels` belong to `alphas` and must not depend on the data in `curve`.

    Returns:
        One step an alpha, in the order of `alphas`. With probability at least 1 - sum(levels), the risk
        of every threshold named is at most its alpha.
    """
    steps: dict[float, CertifiedStep] = {}
    handed_on = 0.0
    for alpha, start, level in sorted(zip(alphas, starts, levels, strict=True), reverse=True):
        available = level + handed_on
        last = _last_rejected(curve, alpha, start, available)
        handed_on = available if last == len(curve.thresholds) - 1 else 0.0
        steps[alpha] = _step(curve, alpha, last, available)
    return _loosened([steps[alpha] for alpha in alphas])


def _last_rejected(curve: RiskCurve, alpha: float, start: int, level: float) -> int | None:
    """In pieces, as a chain seldom runs to its end and p-values take time."""
    errors, trials, last = curve.errors, curve.trials, len(curve.thresholds)
    for begin in range(start, last, _PIECE):
        piece = slice(begin, min(begin + _PIECE, last))
        failures = np.flatnonzero(risk_p_values(errors[piece], trials[piece], alpha) > level)
        if len(failures):
            found = begin + int(failures[0]) - 1
            return found if found >= start else None
    return last - 1 if start < last else None


def _step(curve: RiskCurve, alpha: float, index: int | None, level: float) -> CertifiedStep:
    if index is None:
        return CertifiedStep(alpha, None, level, 1.0)
    bound = float(risk_upper_bound(curve.errors[index], curve.trials[index], level))
    return CertifiedStep(alpha, index, level, bound)


def _loosened(steps: Sequence[CertifiedStep]) -> list[CertifiedStep]:
    """Give each alpha the loosest threshold certified for it or for any smaller one."""
    result = []
    for step in steps:
        certified = [s for s in steps if s.alpha <= step.alpha and s.index is not None]
        best = max(certified, key=lambda s: (s.index or 0, s.alpha), default=step)
        result.append(CertifiedStep(step.alpha, best.index, best.level, best.risk_bound))
    return result
