"""How sure a measured accuracy is, how two models differ on the same texts, and how seeds spread. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from shared.documents import Document

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Proportion(Document):
    """`right` of `total`, and the interval [`low`, `high`] that holds the true share with `confidence`."""

    right: int
    total: int
    value: float
    low: float
    high: float
    confidence: float


@dataclass(frozen=True)
class PairedDifference(Document):
    """Accuracy of a second model minus a first one's, on the same texts.

    `only_first` and `only_second`: texts that just one of them has right. `mcnemar_p`: two-sided p-value of
    "they are equally often right".
    """

    total: int
    only_first: int
    only_second: int
    value: float
    low: float
    high: float
    confidence: float
    mcnemar_p: float


@dataclass(frozen=True)
class Spread(Document):
    """One figure over several seeds. `deviation` is the sample's (n - 1); None of a single run."""

    count: int
    mean: float
    deviation: float | None
    lowest: float
    highest: float


def accuracy_of(right: ArrayLike, confidence: float = CONFIDENCE) -> Proportion:
    """Share of true among `right` [texts], with Wilson's interval.

    Raises:
        ValueError: `right` is empty.
    """
    flags = np.asarray(right, dtype=np.bool_)
    return proportion(int(flags.sum()), len(flags), confidence)


def proportion(right: int, total: int, confidence: float = CONFIDENCE) -> Proportion:
    """`right` of `total` with Wilson's interval.

    Raises:
        ValueError: not 0 ≤ right ≤ total, or total is 0.
    """
    low, high = wilson_interval(right, total, confidence)
    return Proportion(right, total, right / total, low, high, confidence)


def wilson_interval(right: int, total: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval without continuity correction (JASA 22, 1927), as Brown, Cai and DasGupta (2001) advise.

    Raises:
        ValueError: not 0 ≤ right ≤ total, or total is 0.
    """
    _check(right, total, confidence)
    z = _normal_quantile(confidence)
    centre = (right + z * z / 2) / (total + z * z)
    reach = z / (total + z * z) * math.sqrt(right * (total - right) / total + z * z / 4)
    low = 0.0 if right == 0 else max(0.0, centre - reach)
    high = 1.0 if right == total else min(1.0, centre + reach)
    return low, high


def exact_interval(right: int, total: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Clopper and Pearson's interval (Biometrika 26, 1934): never covers less than `confidence`, and is wider for it.

    Raises:
        ValueError: not 0 ≤ right ≤ total, or total is 0.
    """
    _check(right, total, confidence)
    tail = (1 - confidence) / 2
    low = 0.0 if right == 0 else float(special.betaincinv(right, total - right + 1, tail))
    high = 1.0 if right == total else float(special.betaincinv(right + 1, total - right, 1 - tail))
    return low, high


def paired_difference(
    first_right: ArrayLike, second_right: ArrayLike, confidence: float = CONFIDENCE
) -> PairedDifference:
    """How much more often the second model is right; both [texts], row by row the same texts.

    The interval is Newcombe's for paired proportions: square and add Wilson's intervals, allowing for their
    correlation (Statistics in Medicine 17, 1998, 2635-2650, method 10).

    Raises:
        ValueError: empty, or of different lengths.
    """
    first, second = np.asarray(first_right, dtype=np.bool_), np.asarray(second_right, dtype=np.bool_)
    if first.shape != second.shape:
        raise ValueError(f"{first.shape} and {second.shape} are not answers to the same texts")
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    both, total = int((first & second).sum()), first.size
    low, high = newcombe_interval(both, only_first, only_second, total - both - only_first - only_second, confidence)
    value = (only_second - only_first) / total
    p_value = mcnemar_p(only_first, only_second)
    return PairedDifference(total, only_first, only_second, value, low, high, confidence, p_value)


def newcombe_interval(
    both: int, only_first: int, only_second: int, neither: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Newcombe's method 10 for second minus first, of the four counts of a paired 2 x 2 table.

    Raises:
        ValueError: the counts add up to nothing.
    """
    total = both + only_first + only_second + neither
    first, second = proportion(both + only_first, total, confidence), proportion(both + only_second, total, confidence)
    phi = _corrected_phi(both, only_first, only_second, neither)
    value = (only_second - only_first) / total
    down = _join(second.value - second.low, first.high - first.value, phi)
    up = _join(second.high - second.value, first.value - first.low, phi)
    return max(-1.0, value - down), min(1.0, value + up)


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Exact two-sided p-value (McNemar, Psychometrika 12, 1947) from the texts on which just one model is right."""
    discordant, fewer = only_first + only_second, min(only_first, only_second)
    if only_first == only_second:
        return 1.0
    return min(1.0, 2 * float(special.bdtr(fewer, discordant, 0.5)))


def spread(values: Sequence[float]) -> Spread:
    """Mean, sample deviation and range over seeds.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("there is no spread of no values")
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(len(values), float(np.mean(values)), deviation, min(values), max(values))


def _corrected_phi(both: int, only_first: int, only_second: int, neither: int) -> float:
    """Correlation of the two models' answers, its numerator lessened by half the texts where it is positive."""
    total = both + only_first + only_second + neither
    margins = (both + only_first, only_second + neither, both + only_second, only_first + neither)
    if not all(margins):
        return 0.0
    excess = float(both * neither - only_first * only_second)
    if excess > 0:
        excess = max(0.0, excess - total / 2)
    return excess / math.sqrt(math.prod(margins))


def _join(one: float, other: float, phi: float) -> float:
    return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))


def _normal_quantile(confidence: float) -> float:
    return float(special.ndtri((1 + confidence) / 2))


def _check(right: int, total: int, confidence: float) -> None:
    if not 0 <= right <= total or total == 0:
        raise ValueError(f"{right} of {total} is no share")
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence of {confidence} is not between 0 and 1")
