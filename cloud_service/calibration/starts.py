"""Where a chain of tests starts: the threshold from which it is likely to get furthest, judged on data apart.

A few hundred predictions hold a handful of errors, too few to read small risks off them. So each one's chance to be
wrong is smoothed first: by a logistic curve over what the model itself says of that chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from cloud_service.calibration.binomial import risk_p_values
from cloud_service.calibration.risk_curve import FloatArray

Floats = NDArray[np.floating]

MOST_PLACES = 80
KEPT_QUANTILES = special.ndtri(np.array([0.1, 0.3, 0.5, 0.7, 0.9]))
RISK_QUANTILES = np.array([1, 3, 5]) / 6
TRUST = 10.0
"""How many predictions one prediction counts for, once smoothed, where its risk is uncertain."""

_PRIOR = np.array([0.0, 1.0])  # the model's own word, as it is
_PRIOR_PRECISION = np.array([1.0, 4.0])
_STEPS = 20


@dataclass(frozen=True)
class SmoothSample:
    """Predictions apart from those that certify: `scores` and smoothed chances to be wrong, both float64 [n]."""

    scores: FloatArray
    chances: FloatArray

    def risk_from(self, thresholds: FloatArray) -> tuple[NDArray[np.int64], FloatArray]:
        """What each threshold keeps of the sample, and the chance that a kept one is wrong, near 1/5 for none."""
        descending = np.argsort(-self.scores, kind="stable")
        wrong_above = np.concatenate([[0.0], np.cumsum(self.chances[descending])])
        kept = np.searchsorted(-self.scores[descending], -thresholds, side="right")
        return kept, np.clip((wrong_above[kept] + 0.02) / (kept + 0.1), 1e-9, 1.0 - 1e-9)


def smooth_chances(doubts: FloatArray, wrong: NDArray[np.bool_]) -> FloatArray:
    """Each prediction's chance to be wrong, float64 [n], from the model's `doubts` and what came of them.

    logit(chance) = a + b · logit(doubt) by penalized likelihood; without data a is 0 and b is 1.
    """
    doubts = np.clip(doubts, 1e-12, 1.0 - 1e-12)
    features = np.column_stack([np.ones(len(doubts)), special.logit(doubts)])
    weights = _PRIOR.copy()
    for _ in range(_STEPS):
        chances = special.expit(features @ weights)
        gradient = features.T @ (wrong - chances) - _PRIOR_PRECISION * (weights - _PRIOR)
        curvature = features.T @ (features * (chances * (1.0 - chances))[:, np.newaxis]) + np.diag(_PRIOR_PRECISION)
        step = np.clip(np.linalg.solve(curvature, gradient), -1.0, 1.0)
        weights = weights + step
        if np.abs(step).max() < 1e-6:
            break
    smoothed: FloatArray = special.expit(features @ weights)
    return smoothed


def choose_start(tuned: SmoothSample, thresholds: FloatArray, tests: int, alpha: float, level: float) -> int:
    """The index in `thresholds`, strict to loose, from which a chain at `level` is expected to keep most.

    `tests` is the number of predictions that will certify.
    """
    places = np.unique(np.linspace(0, len(thresholds) - 1, MOST_PLACES).round().astype(np.int64))
    kept, risk = tuned.risk_from(thresholds[places])
    share = (kept + 0.5) / (len(tuned.scores) + 1.0)
    trust = TRUST * kept + 5.0
    powers = _powers(share, risk, trust, tests, alpha, level)
    return int(places[int(np.argmax(_expected_kept(share, powers)))])


def _powers(share: Floats, risk: Floats, trust: Floats, tests: int, alpha: float, level: float) -> FloatArray:
    """The chance that each place's test alone rejects, over what may be kept of `tests` and what the risk may be."""
    spread = np.sqrt(tests * share * (1.0 - share))
    kept = np.clip(np.round(tests * share + KEPT_QUANTILES[:, np.newaxis] * spread), 0, tests)
    allowed = most_errors(kept, alpha, level)
    risks = special.betaincinv(risk * trust, (1.0 - risk) * trust, RISK_QUANTILES[:, np.newaxis])
    passing = 1.0 - special.betainc(
        np.maximum(allowed, 0.0) + 1.0, np.maximum(kept - allowed, 1e-9), risks[:, np.newaxis, :]
    )
    powers: FloatArray = np.where(allowed < 0, 0.0, passing).mean(axis=(0, 1))
    return powers


def most_errors(kept: FloatArray, alpha: float, level: float) -> FloatArray:
    """With how many errors at most, of `kept`, a risk of at most `alpha` is shown at `level`; -1 where with none."""
    mean, spread = kept * alpha, np.sqrt(kept * alpha * (1.0 - alpha))
    found: FloatArray = np.clip(np.floor(mean + special.ndtri(level) * spread - 0.5), -1.0, kept)
    while (too_many := (found >= 0) & (risk_p_values(np.maximum(found, 0.0), kept, alpha) > level)).any():
        found = found - too_many
    while (room := risk_p_values(found + 1.0, kept, alpha) <= level).any():
        found = found + room
    return found


def _expected_kept(share: Floats, powers: FloatArray) -> FloatArray:
    """What a chain from each place keeps on average, if it survives to a later one as often as its hardest test."""
    gained = np.diff(share)
    expected = np.empty(len(share))
    for start in range(len(share)):
        survival = np.minimum.accumulate(powers[start:])
        expected[start] = share[start] * survival[0] + float(gained[start:] @ survival[1:])
    return expected
