"""From predictions on the validation and calibration parts to a gate with its certificates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud_service.calibration.learn_then_test import CertifiedStep, certify, choose_starts, share_delta
from cloud_service.calibration.risk_curve import RiskCurve, ScoredSample, candidate_thresholds, measure
from cloud_service.calibration.score_choice import choose_score, fit_temperature
from shared.gate import Certificate, CertifiedThreshold, Gate, Risk, Score, score_values

FAVOURITE_SHARE = 0.5


@dataclass(frozen=True)
class Predictions:
    """One part's edge logits, float32 [n, labels], true labels and the full model's answers, int64 [n]."""

    edge_logits: NDArray[np.float32]
    label_ids: NDArray[np.int64]
    full_answers: NDArray[np.int64]

    def wrong(self, risk: Risk) -> NDArray[np.bool_]:
        """Which edge answers count against `risk`, bool [n]."""
        truth = self.label_ids if risk is Risk.KEPT_ERROR else self.full_answers
        wrong: NDArray[np.bool_] = self.edge_logits.argmax(axis=1) != truth
        return wrong


@dataclass(frozen=True)
class GatePlan:
    """What to promise: the grid of alphas, delta for each risk, and the alpha in force for each risk at first."""

    alphas: tuple[float, ...]
    delta: float
    in_force: dict[Risk, float]


@dataclass(frozen=True)
class Provenance:
    """What a certificate says of where it comes from."""

    model_digest: str
    full_model_digest: str
    data: str
    data_digest: str
    code_version: str


def make_gate(validation: Predictions, calibration: Predictions, plan: GatePlan, provenance: Provenance) -> Gate:
    """Fix temperature, score and the chains' starts on `validation`; certify thresholds on `calibration`."""
    temperature = fit_temperature(validation.edge_logits, validation.label_ids)
    wrong = validation.wrong(Risk.KEPT_ERROR)
    score, _ = choose_score(validation.edge_logits, wrong, temperature, plan.alphas)
    certificates = [
        _certificate(risk, validation, calibration, score, temperature, plan, provenance) for risk in plan.in_force
    ]
    return Gate(
        model_digest=provenance.model_digest,
        full_model_digest=provenance.full_model_digest,
        score=score,
        temperature=temperature,
        in_force=dict(plan.in_force),
        certificates=tuple(certificates),
    )


def _certificate(
    risk: Risk,
    validation: Predictions,
    calibration: Predictions,
    score: Score,
    temperature: float,
    plan: GatePlan,
    provenance: Provenance,
) -> Certificate:
    tuned = _scored(validation, risk, score, temperature)
    tested = _scored(calibration, risk, score, temperature)
    thresholds = candidate_thresholds(tuned.scores)
    starts = choose_starts(measure(tuned, thresholds), plan.alphas, len(tested))
    favourite = plan.in_force.get(risk, plan.alphas[0])
    levels = share_delta(plan.alphas, plan.delta, favourite, FAVOURITE_SHARE)
    curve = measure(tested, thresholds)
    return Certificate(
        risk=risk,
        delta=plan.delta,
        n=len(tested),
        steps=_steps(certify(curve, plan.alphas, starts, levels), curve, starts),
        data=provenance.data,
        data_digest=provenance.data_digest,
        code_version=provenance.code_version,
    )


def _scored(part: Predictions, risk: Risk, score: Score, temperature: float) -> ScoredSample:
    return ScoredSample(score_values(part.edge_logits, score, temperature), part.wrong(risk))


def _steps(
    certified: Sequence[CertifiedStep], curve: RiskCurve, starts: Sequence[int]
) -> tuple[CertifiedThreshold, ...]:
    return tuple(
        _threshold(step, curve) if step.index is not None else _uncertified(step, curve, start)
        for step, start in zip(certified, starts, strict=True)
    )


def _threshold(step: CertifiedStep, curve: RiskCurve) -> CertifiedThreshold:
    assert step.index is not None
    return CertifiedThreshold(
        alpha=step.alpha,
        threshold=float(curve.thresholds[step.index]),
        kept=int(curve.kept[step.index]),
        errors=int(curve.errors[step.index]),
        risk_bound=step.risk_bound,
        expected_offload=float(curve.offload()[step.index]),
    )


def _uncertified(step: CertifiedStep, curve: RiskCurve, start: int) -> CertifiedThreshold:
    kept, errors = int(curve.kept[start]), int(curve.errors[start])
    reason = (
        f"the likeliest threshold keeps {kept} of {curve.n} calibration samples, {errors} of them wrong: "
        f"too many, or too few samples, to show a risk of at most {step.alpha:g}"
    )
    return CertifiedThreshold(step.alpha, None, 0, 0, 1.0, 1.0, reason)
