"""Temperature and score of a gate, fixed on data apart from those that certify."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from cloud_service.calibration.risk_curve import FloatArray, ScoredSample, candidate_thresholds, measure
from shared.gate import SCORE_FUNCTIONS, Score, probabilities, score_values

LOG_TEMPERATURE_LIMITS = (-3.0, 3.0)
MOST_TEMPERATURE_SAMPLES = 5000
RISK_LEVELS = np.linspace(0.3, 1.5, 13)
"""A score's offload at one level of risk hangs on few errors; its mean over these multiples of alpha on more."""

_LEAST_ENERGY = -1e300


def fit_temperature(logits: NDArray[np.floating], label_ids: NDArray[np.int64]) -> float:
    """The temperature that makes the labels likeliest (Guo et al., arXiv 1706.04599), e^-3 to e^3.

    Of more than `MOST_TEMPERATURE_SAMPLES` predictions, the first ones. Those with label -1 say nothing; 1 without any.
    """
    labelled = np.flatnonzero(label_ids >= 0)[:MOST_TEMPERATURE_SAMPLES]
    if len(labelled) == 0:
        return 1.0
    wide = logits[labelled].astype(np.float64)
    of_label = wide[np.arange(len(wide)), label_ids[labelled]]
    top = wide.max(axis=1, keepdims=True)
    wide -= top
    gap = float((top[:, 0] - of_label).mean())

    def negative_log_likelihood(log_temperature: float) -> float:
        inverse = math.exp(-log_temperature)
        return gap * inverse + float(np.log(np.exp(wide * inverse).sum(axis=1)).mean())

    found = minimize_scalar(negative_log_likelihood, bounds=LOG_TEMPERATURE_LIMITS, method="bounded")
    return float(np.exp(found.x))


def least_score(score: Score, labels: int) -> float:
    """A threshold that keeps every prediction over so many labels."""
    if score is Score.ENTROPY:
        return -math.log(labels) - 1e-6
    return _LEAST_ENERGY if score is Score.ENERGY else 0.0


def choose_score(
    logits: NDArray[np.floating], wrong: NDArray[np.bool_], temperature: float, alphas: Sequence[float]
) -> tuple[Score, dict[Score, float]]:
    """The score that offloads least at equal risk, and each score's mean offload at risks about `alphas`.

    Another takes the place of the largest probability only where it does so by more than two standard errors of
    the share: with few predictions the least of four is least by chance.
    """
    chances = probabilities(logits, temperature)
    offload = {
        score: _mean_offload(measured(logits, temperature, chances), wrong, alphas)
        for score, measured in SCORE_FUNCTIONS.items()
    }
    best, first = min(offload, key=offload.__getitem__), offload[Score.MAX_PROBABILITY]
    error = math.sqrt(first * (1.0 - first) / max(1, len(wrong)))
    return (best if offload[best] < first - 2.0 * error else Score.MAX_PROBABILITY), offload


def least_offload(
    logits: NDArray[np.floating], wrong: NDArray[np.bool_], score: Score, temperature: float, alpha: float
) -> float:
    """The smallest share not kept at which the sample's own kept risk is at most `alpha`; no certificate."""
    return float(_least_offloads(score_values(logits, score, temperature), wrong, np.array([alpha]))[0])


def _mean_offload(scores: FloatArray, wrong: NDArray[np.bool_], alphas: Sequence[float]) -> float:
    if len(wrong) == 0:
        return 1.0
    levels = np.outer(np.minimum(alphas, wrong.mean()), RISK_LEVELS).ravel()
    return float(_least_offloads(scores, wrong, levels).mean())


def _least_offloads(scores: FloatArray, wrong: NDArray[np.bool_], alphas: FloatArray) -> FloatArray:
    curve = measure(ScoredSample(scores, wrong), candidate_thresholds(scores, float(scores.min()), len(scores)))
    allowed = curve.errors <= alphas[:, np.newaxis] * curve.kept
    least: FloatArray = np.where(allowed, curve.offload(), 1.0).min(axis=1)
    return least
