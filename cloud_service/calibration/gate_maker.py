"""From predictions on the validation and calibration parts to a gate with its certificates."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cloud_service.calibration.certificates import Promise, certify_promise, curve_points, score_histogram
from cloud_service.calibration.label_rules import CriticalLabel, label_rule, with_label_rules
from cloud_service.calibration.predictions import Judged, Predictions
from cloud_service.calibration.score_choice import choose_score, fit_temperature, least_score
from shared.gate import Certificate, Gate, Guarantee, LabelRule, Risk

__all__ = ["GatePlan", "Predictions", "Provenance", "make_gate"]


@dataclass(frozen=True)
class GatePlan:
    """What to promise: the grid of alphas, delta for each risk, and the alpha in force for each risk at first.

    `critical` labels have an alpha each and a delta of their own. `joint_guarantee` is how the joint risk is meant.
    """

    alphas: tuple[float, ...]
    delta: float
    in_force: dict[Risk, float]
    critical: tuple[CriticalLabel, ...] = field(default=())
    joint_guarantee: Guarantee = Guarantee.PROBABILITY

    @property
    def first_risk(self) -> Risk:
        """By which score and label rules go: errors, unless only disagreement is promised."""
        return Risk.KEPT_DISAGREEMENT if set(self.in_force) == {Risk.KEPT_DISAGREEMENT} else Risk.KEPT_ERROR

    def promise(self, risk: Risk) -> Promise:
        """What is promised of `risk`."""
        guarantee = self.joint_guarantee if risk is Risk.JOINT else Guarantee.PROBABILITY
        return Promise(risk, self.alphas, self.delta, self.in_force.get(risk, self.alphas[0]), guarantee)


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
    temperature = fit_temperature(validation.edge_logits, validation.truth(plan.first_risk))
    score, _ = choose_score(validation.edge_logits, validation.wrong(plan.first_risk), temperature, plan.alphas)
    least = least_score(score, calibration.edge_logits.shape[1])
    tuned, tested = (Judged.of(part, score, temperature) for part in (validation, calibration))
    rules = tuple(label_rule(tuned, tested, critical, plan.first_risk, plan.delta, least) for critical in plan.critical)
    certificates = [
        make_certificate(tuned, tested, plan.promise(risk), rules, least, provenance) for risk in plan.in_force
    ]
    return Gate(
        model_digest=provenance.model_digest,
        full_model_digest=provenance.full_model_digest,
        score=score,
        temperature=temperature,
        in_force=dict(plan.in_force),
        certificates=tuple(certificates),
        label_rules=rules,
        score_histogram=score_histogram(tested),
    )


def make_certificate(
    tuned: Judged,
    tested: Judged,
    promise: Promise,
    rules: tuple[LabelRule, ...],
    least: float,
    provenance: Provenance,
) -> Certificate:
    """Certify `promise` for the answers of labels without a rule; offload counts all answers."""
    indices = [rule.index for rule in rules]
    ruled = np.isin(tested.answers, indices)
    others = tested.where(~ruled) if rules else tested
    certified = certify_promise(tuned.where(~np.isin(tuned.answers, indices)), others, promise, least)
    on_average = promise.guarantee is Guarantee.EXPECTATION
    return Certificate(
        risk=promise.risk,
        delta=1.0 if on_average else promise.delta,
        n=len(others),
        steps=tuple(with_label_rules(step, rules, tested, ruled) for step in certified.steps),
        data=provenance.data,
        data_digest=provenance.data_digest,
        code_version=provenance.code_version,
        guarantee=promise.guarantee,
        curve=curve_points(certified.curve),
    )
