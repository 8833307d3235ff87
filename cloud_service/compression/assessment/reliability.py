"""Whether a classifier's confidence is what it says: calibration error, likelihood, perplexity. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from shared.documents import Document

FloatArray = NDArray[np.float64]
BINS = 15


class Binning(str, Enum):
    """How texts are put into bins."""

    EQUAL_MASS = "equal mass"  # as many texts in each (Nixon et al. 2019): no bin rests on a handful of texts
    EQUAL_WIDTH = "equal width"  # of [0, 1] (Guo et al. 2017): for comparison with figures elsewhere


@dataclass(frozen=True)
class ReliabilityBin(Document):
    """Texts of like confidence: how many, their mean confidence, and the share of them that is right."""

    texts: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Reliability(Document):
    """Expected calibration error in [0, 1], and the bins it sums over; bins without texts are left out."""

    error: float
    binning: Binning
    bins: tuple[ReliabilityBin, ...]


def reliability_of(
    logits: ArrayLike, label_ids: ArrayLike, binning: Binning = Binning.EQUAL_MASS, bins: int = BINS
) -> Reliability:
    """Reliability of the largest softmax probability; `logits` [texts, labels], `label_ids` [texts].

    Raises:
        ValueError: no texts, or not one label for each.
    """
    probabilities, wanted = _checked(logits, label_ids)
    right = probabilities.argmax(axis=1) == wanted
    return reliability_table(probabilities.max(axis=1), right, binning, bins)


def reliability_table(
    confidences: ArrayLike, right: ArrayLike, binning: Binning = Binning.EQUAL_MASS, bins: int = BINS
) -> Reliability:
    """Reliability of `confidences` [texts] in [0, 1] against `right` [texts].

    The error is Σ texts / all · |accuracy - confidence| over bins (Naeini et al. 2015). Texts of the same
    confidence may fall into two bins of equal mass, by their order.

    Raises:
        ValueError: no texts, different lengths, or no bins.
    """
    sure, flags = np.asarray(confidences, dtype=np.float64), np.asarray(right, dtype=np.bool_)
    if sure.shape != flags.shape or sure.ndim != 1 or not len(sure) or bins < 1:
        raise ValueError(f"{sure.shape} confidences and {flags.shape} answers give no table of {bins} bins")
    table = tuple(
        ReliabilityBin(len(rows), float(sure[rows].mean()), float(flags[rows].mean()))
        for rows in _rows_of_bins(sure, binning, bins)
        if len(rows)
    )
    error = sum(each.texts / len(sure) * abs(each.accuracy - each.confidence) for each in table)
    return Reliability(error, binning, table)


def negative_log_likelihoods(logits: ArrayLike, label_ids: ArrayLike) -> FloatArray:
    """-ln of the probability of each text's label, nats [texts].

    Raises:
        ValueError: no texts, or not one label for each.
    """
    scores = np.asarray(logits, dtype=np.float64)
    _, wanted = _checked(scores, label_ids)
    chosen = np.take_along_axis(scores, wanted[:, None], axis=1)[:, 0]
    likelihoods: FloatArray = special.logsumexp(scores, axis=1) - chosen
    return likelihoods


def perplexity(negative_log_likelihoods_nats: ArrayLike) -> float:
    """exp of the mean negative log likelihood: over labels of texts, or over tokens.

    Raises:
        ValueError: there are none.
    """
    nats = np.asarray(negative_log_likelihoods_nats, dtype=np.float64)
    if not nats.size:
        raise ValueError("there is no perplexity of nothing")
    return float(np.exp(nats.mean()))


def _checked(logits: ArrayLike, label_ids: ArrayLike) -> tuple[FloatArray, NDArray[np.int64]]:
    scores, wanted = np.asarray(logits, dtype=np.float64), np.asarray(label_ids, dtype=np.int64)
    if scores.ndim != 2 or wanted.shape != scores.shape[:1] or not scores.size:
        raise ValueError(f"logits {scores.shape} and labels {wanted.shape} do not fit")
    probabilities: FloatArray = special.softmax(scores, axis=1)
    return probabilities, wanted


def _rows_of_bins(sure: FloatArray, binning: Binning, bins: int) -> list[NDArray[np.int64]]:
    if binning is Binning.EQUAL_MASS:
        return [np.asarray(rows, dtype=np.int64) for rows in np.array_split(np.argsort(sure, kind="stable"), bins)]
    places = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    return [np.flatnonzero(places == place) for place in range(bins)]
