"""What each threshold keeps, and how much of it is wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class ScoredSample:
    """Predictions with a score each (larger is surer) and whether each is wrong.

    `scores` float64 [n], `wrong` bool [n].
    """

    scores: FloatArray
    wrong: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class RiskCurve:
    """Counts at each threshold, int64 [thresholds]: predictions that score at least that, and the wrong among them."""

    thresholds: FloatArray
    kept: IntArray
    errors: IntArray
    n: int

    def offload(self) -> FloatArray:
        """Share of the sample that each threshold does not keep."""
        return 1.0 - self.kept / max(1, self.n)


def measure(sample: ScoredSample, thresholds: FloatArray) -> RiskCurve:
    """Count at every threshold at once, in O((n + thresholds) log n)."""
    order = np.argsort(sample.scores, kind="stable")
    ascending = sample.scores[order]
    errors_from = np.concatenate([np.cumsum(sample.wrong[order][::-1])[::-1], [0]]).astype(np.int64)
    first = np.searchsorted(ascending, thresholds, side="left")
    return RiskCurve(thresholds, (len(sample) - first).astype(np.int64), errors_from[first], len(sample))


def candidate_thresholds(scores: FloatArray, most: int = 1000) -> FloatArray:
    """Thresholds to try, strict to loose: the distinct scores of a sample, at most `most` of them."""
    distinct = np.unique(scores)[::-1]
    if len(distinct) <= most:
        return distinct
    return distinct[np.linspace(0, len(distinct) - 1, most).round().astype(np.int64)]
