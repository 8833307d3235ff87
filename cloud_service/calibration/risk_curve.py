"""What each threshold keeps, and how much of it is wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MOST_THRESHOLDS = 4000
STEPS_BETWEEN_SCORES = 8


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
    """Counts at each threshold, int64 [thresholds]: predictions that score at least that, and the wrong among them.

    `of_all`: the risk is the share of all `n` predictions that is kept and wrong, not of the kept ones.
    """

    thresholds: FloatArray
    kept: IntArray
    errors: IntArray
    n: int
    of_all: bool = False

    @property
    def trials(self) -> IntArray:
        """How many predictions the risk at each threshold is a share of, int64 [thresholds]."""
        return np.full_like(self.kept, self.n) if self.of_all else self.kept

    def offload(self) -> FloatArray:
        """Share of the sample that each threshold does not keep."""
        return 1.0 - self.kept / max(1, self.n)


def measure(sample: ScoredSample, thresholds: FloatArray, of_all: bool = False) -> RiskCurve:
    """Count at every threshold at once, in O((n + thresholds) log n)."""
    order = np.argsort(sample.scores, kind="stable")
    ascending = sample.scores[order]
    errors_from = np.concatenate([np.cumsum(sample.wrong[order][::-1])[::-1], [0]]).astype(np.int64)
    first = np.searchsorted(ascending, thresholds, side="left")
    return RiskCurve(thresholds, (len(sample) - first).astype(np.int64), errors_from[first], len(sample), of_all)


def candidate_thresholds(scores: FloatArray, least: float, most: int = MOST_THRESHOLDS) -> FloatArray:
    """Thresholds to try, strict to loose: a sample's distinct scores, places between them, and `least`, at most `most`.

    `least` is no larger than any score there can be: it keeps everything. Between two scores lie several places,
    as another and larger sample has scores there.
    """
    distinct = np.unique(np.append(scores, least))[::-1]
    count = min(most, STEPS_BETWEEN_SCORES * (len(distinct) - 1) + 1)
    if len(scores) == 0 or count < 2:
        return distinct
    places = np.linspace(0, len(distinct) - 1, count)
    between = np.interp(places, np.arange(len(distinct)), distinct)
    exact = places == np.round(places)
    between[exact] = distinct[places[exact].astype(np.int64)]
    return np.unique(between)[::-1]
