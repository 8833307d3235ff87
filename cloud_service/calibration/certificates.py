"""One risk's certificate: chains planned on one part of the data, tested on the other, put into words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cloud_service.calibration.conformal_risk import control_on_average
from cloud_service.calibration.learn_then_test import CertifiedStep, certify, share_delta
from cloud_service.calibration.predictions import Judged
from cloud_service.calibration.risk_curve import FloatArray, RiskCurve, candidate_thresholds, measure
from cloud_service.calibration.shortfall import Start, reason_of, shortfall_of
from cloud_service.calibration.starts import SmoothSample, choose_start, smooth_chances
from shared.gate import CertifiedThreshold, CurvePoint, Guarantee, Risk, ScoreHistogram

FAVOURITE_SHARE = 0.5
MOST_CURVE_POINTS = 64
HISTOGRAM_BINS = 20


@dataclass(frozen=True)
class Promise:
    """A risk, the alphas to certify at once, `favourite` among them with half of delta, and how it is meant."""

    risk: Risk
    alphas: tuple[float, ...]
    delta: float
    favourite: float
    guarantee: Guarantee = Guarantee.PROBABILITY


@dataclass(frozen=True)
class Certified:
    """What was certified, in the order of the promise's alphas, and the certifying part's counts."""

    steps: tuple[CertifiedThreshold, ...]
    curve: RiskCurve


def certify_promise(tuned: Judged, tested: Judged, promise: Promise, least: float) -> Certified:
    """Plan on `tuned`, certify on `tested`. `least` is a threshold that keeps everything."""
    thresholds = candidate_thresholds(tuned.scores, least)
    curve = measure(tested.sample(promise.risk), thresholds, of_all=promise.risk is Risk.JOINT)
    levels = share_delta(promise.alphas, promise.delta, promise.favourite, FAVOURITE_SHARE)
    starts = _starts(tuned, curve, promise, levels)
    begins = [start(alpha) for alpha, start in zip(promise.alphas, starts, strict=True)]
    if promise.guarantee is Guarantee.EXPECTATION:
        found = control_on_average(curve, promise.alphas)
    else:
        found = certify(curve, promise.alphas, begins, levels)
    steps = [
        _certified(step, curve)
        if step.index is not None
        else _uncertified(step, curve, begin, start, _likeliest_risk(tuned, tested, curve, promise.risk))
        for step, begin, start in zip(found, begins, starts, strict=True)
    ]
    return Certified(tuple(steps), curve)


def _starts(tuned: Judged, curve: RiskCurve, promise: Promise, levels: Sequence[float]) -> list[Start]:
    """For each alpha, where a chain at its level starts. The joint risk only rises on the way: from the strictest."""
    if promise.risk is Risk.JOINT:
        return [lambda alpha: 0] * len(levels)
    smooth = SmoothSample(tuned.scores, smooth_chances(tuned.doubts, tuned.sample(promise.risk).wrong))

    def at(level: float) -> Start:
        return lambda alpha: choose_start(smooth, curve.thresholds, curve.n, alpha, level)

    return [at(level) for level in levels]


def _certified(step: CertifiedStep, curve: RiskCurve) -> CertifiedThreshold:
    assert step.index is not None
    return CertifiedThreshold(
        alpha=step.alpha,
        threshold=float(curve.thresholds[step.index]),
        kept=int(curve.kept[step.index]),
        errors=int(curve.errors[step.index]),
        risk_bound=step.risk_bound,
        expected_offload=float(curve.offload()[step.index]),
    )


def _likeliest_risk(tuned: Judged, tested: Judged, curve: RiskCurve, risk: Risk) -> FloatArray:
    """At each threshold, by all samples: an estimate to plan with, not to promise by."""
    if risk is Risk.JOINT:
        share: FloatArray = (curve.errors + 0.02) / np.float64(curve.n + 0.1)
        return share
    wrong = np.concatenate([tuned.sample(risk).wrong, tested.sample(risk).wrong])
    doubts, scores = np.append(tuned.doubts, tested.doubts), np.append(tuned.scores, tested.scores)
    return SmoothSample(scores, smooth_chances(doubts, wrong)).risk_from(curve.thresholds)[1]


def _uncertified(
    step: CertifiedStep, curve: RiskCurve, begin: int, start: Start, risk: FloatArray
) -> CertifiedThreshold:
    reason = reason_of(curve, step.alpha, step.level, begin)
    shortfall = shortfall_of(curve, step.alpha, step.level, start, risk)
    return CertifiedThreshold(step.alpha, None, 0, 0, 1.0, 1.0, reason, shortfall)


def curve_points(curve: RiskCurve) -> tuple[CurvePoint, ...]:
    """At most `MOST_CURVE_POINTS` points of a curve, evenly spaced by what is kept."""
    if curve.n == 0:
        return ()
    wanted = np.linspace(curve.n / MOST_CURVE_POINTS, curve.n, MOST_CURVE_POINTS)
    places = np.unique(np.minimum(np.searchsorted(curve.kept, wanted), len(curve.kept) - 1))
    return tuple(
        CurvePoint(float(curve.thresholds[place]), int(curve.kept[place]), int(curve.errors[place])) for place in places
    )


def score_histogram(tested: Judged) -> ScoreHistogram | None:
    """The certifying part's scores in bins of like counts; None without samples."""
    if len(tested) == 0:
        return None
    edges = np.unique(np.quantile(tested.scores, np.arange(1, HISTOGRAM_BINS) / HISTOGRAM_BINS, method="higher"))
    bins = np.bincount(np.searchsorted(edges, tested.scores, side="right"), minlength=len(edges) + 1)
    return ScoreHistogram(tuple(float(edge) for edge in edges), tuple(int(count) for count in bins))
