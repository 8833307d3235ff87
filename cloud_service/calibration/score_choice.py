"""Temperature and score of a gate, fixed on the validation part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from cloud_service.calibration.risk_curve import ScoredSample, candidate_thresholds, measure
from shared.gate import Score, score_values

LOG_TEMPERATURE_LIMITS = (-3.0, 3.0)


def fit_temperature(logits: NDArray[np.float32], label_ids: NDArray[np.int64]) -> float:
    """The temperature that makes the labels likeliest (Guo et al., arXiv 1706.04599), e^-3 to e^3."""
    wide = logits.astype(np.float64)
    rows = np.arange(len(label_ids))

    def negative_log_likelihood(log_temperature: float) -> float:
        return float(-log_softmax(wide / np.exp(log_temperature), axis=1)[rows, label_ids].mean())

    found = minimize_scalar(negative_log_likelihood, bounds=LOG_TEMPERATURE_LIMITS, method="bounded")
    return float(np.exp(found.x))


def choose_score(
    logits: NDArray[np.float32], wrong: NDArray[np.bool_], temperature: float, alphas: Sequence[float]
) -> tuple[Score, dict[Score, float]]:
    """The score that offloads least at equal risk, and each score's mean offload over `alphas`."""
    offload = {
        score: float(np.mean([least_offload(logits, wrong, score, temperature, alpha) for alpha in alphas]))
        for score in Score
    }
    return min(offload, key=offload.__getitem__), offload


def least_offload(
    logits: NDArray[np.float32], wrong: NDArray[np.bool_], score: Score, temperature: float, alpha: float
) -> float:
    """The smallest share not kept at which the sample's own kept risk is at most `alpha`; no certificate."""
    sample = ScoredSample(score_values(logits, score, temperature), wrong)
    curve = measure(sample, candidate_thresholds(sample.scores))
    offload = curve.offload()[curve.errors <= alpha * curve.kept]
    return float(offload.min()) if len(offload) else 1.0
