"""Bounds on a risk that hold at every moment at once, from counts alone.

The mixture of binomial likelihoods over a beta prior, divided by the likelihood at p, is a non-negative martingale when
p is the risk; by Ville's inequality it ever reaches 1/δ with probability at most δ (Robbins 1970; Howard et al. 2021,
arXiv 1810.08240, section 3). What is not refuted so is the confidence sequence; looking at it often costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

_HALVINGS = 40
_SMALLEST = 1e-12

FloatArray = NDArray[np.float64]
Refutes = Callable[[FloatArray], NDArray[np.bool_]]


@dataclass(frozen=True)
class BetaMixture:
    """The prior Beta(`a`, `b`). It decides how tight the bounds are, never whether they hold."""

    a: float
    b: float

    @classmethod
    def around(cls, alpha: float) -> BetaMixture:
        """A vague prior with mean `alpha`, where the bounds have to be tight."""
        return cls(1.0, (1.0 - alpha) / alpha)

    def log_evidence(self, wrong: ArrayLike, judged: ArrayLike, risk: ArrayLike) -> FloatArray:
        """The logarithm of the evidence against "the risk is `risk`", in (0, 1). Arguments broadcast."""
        wrong, judged, risk = (np.asarray(each, dtype=np.float64) for each in (wrong, judged, risk))
        return self._log_marginal(wrong, judged) - _log_likelihood(wrong, judged, risk)

    def log_evidence_above(self, wrong: ArrayLike, judged: ArrayLike, risk: ArrayLike) -> FloatArray:
        """The logarithm of the evidence against "the risk is at most `risk`": the prior cut to what lies above."""
        wrong, judged, risk = (np.asarray(each, dtype=np.float64) for each in (wrong, judged, risk))
        posterior = special.betainc(self.b + judged - wrong, self.a + wrong, 1.0 - risk)
        return self._one_sided(wrong, judged, risk, posterior, special.betainc(self.b, self.a, 1.0 - risk))

    def log_evidence_below(self, wrong: ArrayLike, judged: ArrayLike, risk: ArrayLike) -> FloatArray:
        """The logarithm of the evidence against "the risk is at least `risk`": the prior cut to what lies below."""
        wrong, judged, risk = (np.asarray(each, dtype=np.float64) for each in (wrong, judged, risk))
        posterior = special.betainc(self.a + wrong, self.b + judged - wrong, risk)
        return self._one_sided(wrong, judged, risk, posterior, special.betainc(self.a, self.b, risk))

    def interval(self, wrong: ArrayLike, judged: ArrayLike, level: float) -> tuple[FloatArray, FloatArray]:
        """Lower and upper bound that hold together, at all times, with probability 1 - `level`. (0, 1) without data."""
        wrong, judged = np.broadcast_arrays(np.asarray(wrong, np.float64), np.asarray(judged, np.float64))
        rate = wrong / np.maximum(judged, 1.0)
        marginal, limit = self._log_marginal(wrong, judged), -math.log(level)
        wrong_and_right = np.stack([wrong, judged - wrong])

        def is_refuted(share: FloatArray) -> NDArray[np.bool_]:
            # the upper bound is one less the lower bound on being right, so that bounds near 1 are as exact as near 0
            likelihood = wrong_and_right * np.log(share) + wrong_and_right[::-1] * np.log1p(-share)
            refuted: NDArray[np.bool_] = marginal - likelihood >= limit
            return refuted

        found = _bisect(np.full_like(wrong_and_right, _SMALLEST), np.stack([rate, 1.0 - rate]), is_refuted)
        return np.where(wrong > 0, found[0], 0.0), np.where(wrong < judged, 1.0 - found[1], 1.0)

    def lower_bound(self, wrong: int, judged: int, level: float) -> float:
        """The risk is at least this, at all times, with probability 1 - `level`."""
        if wrong == 0:
            return 0.0
        rate = np.asarray(wrong / judged)

        def is_refuted(risk: FloatArray) -> NDArray[np.bool_]:
            return self.log_evidence_above(wrong, judged, risk) >= -math.log(level)

        return float(_bisect(np.asarray(_SMALLEST), rate, is_refuted))

    def upper_bound(self, wrong: int, judged: int, level: float) -> float:
        """The risk is at most this, at all times, with probability 1 - `level`."""
        if wrong == judged:
            return 1.0
        rate = np.asarray(wrong / judged)

        def is_refuted(right: FloatArray) -> NDArray[np.bool_]:
            return self.log_evidence_below(wrong, judged, 1.0 - right) >= -math.log(level)

        return 1.0 - float(_bisect(np.asarray(_SMALLEST), 1.0 - rate, is_refuted))

    def _log_marginal(self, wrong: FloatArray, judged: FloatArray) -> FloatArray:
        marginal: FloatArray = special.betaln(self.a + wrong, self.b + judged - wrong) - special.betaln(self.a, self.b)
        return marginal

    def _one_sided(
        self, wrong: FloatArray, judged: FloatArray, risk: FloatArray, posterior: FloatArray, prior: FloatArray
    ) -> FloatArray:
        tiny = np.finfo(np.float64).tiny
        share = np.log(np.maximum(posterior, tiny)) - np.log(np.maximum(prior, tiny))
        evidence: FloatArray = self._log_marginal(wrong, judged) + share - _log_likelihood(wrong, judged, risk)
        return evidence


def _log_likelihood(wrong: FloatArray, judged: FloatArray, risk: FloatArray) -> FloatArray:
    likelihood: FloatArray = special.xlogy(wrong, risk) + special.xlog1py(judged - wrong, -risk)
    return likelihood


def _bisect(refuted: FloatArray, held: FloatArray, is_refuted: Refutes) -> FloatArray:
    """The largest value known to be refuted between `refuted` and `held`, by halving on the log scale."""
    low, high = np.log(refuted), np.log(np.maximum(held, _SMALLEST))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        out = is_refuted(np.exp(middle))
        low, high = np.where(out, middle, low), np.where(out, high, middle)
    found: FloatArray = np.exp(low)
    return found
