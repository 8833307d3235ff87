"""A new certificate from the field's own data, with score and temperature of the gate that was there. Pure.

Score and temperature were chosen on data apart from the field's, so nothing that certifies has chosen them. Half of the
sample, by a hash of the requests' names, fixes where the chains of tests start; the other half certifies, by the same
procedure as at first (`cloud_service.calibration.certificates`). Disagreement is certified on comparisons with the full
model, error and joint risk on true labels; a risk without such data keeps the certificate that it has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone

import numpy as np

from cloud_service.calibration.certificates import Promise, score_histogram
from cloud_service.calibration.explanation import shortfall_words
from cloud_service.calibration.gate_maker import Provenance, make_certificate
from cloud_service.calibration.label_rules import CriticalLabel, label_rule
from cloud_service.calibration.predictions import OUT_OF_SCOPE, Judged, Predictions
from cloud_service.calibration.score_choice import least_score
from cloud_service.cases.selection import FieldSample
from shared.errors import GateError
from shared.gate import Certificate, Gate, LabelRule, Risk


@dataclass(frozen=True)
class FieldData:
    """What came from the field: a sample for each risk that is judged; `place` says whose answers they are."""

    samples: Mapping[Risk, FieldSample]
    full_model_digest: str
    place: str
    code_version: str


def recalibrated(gate: Gate, labels: Sequence[str], data: FieldData) -> Gate:
    """`gate` with certificates from the field for every risk in `data.samples` that it promises.

    `labels`: the edge model's, in the order of its logits. The alphas, delta and alphas in force stay as they were.
    Critical labels are certified anew where the risk that their rules go by is.

    Raises:
        GateError: the gate promises none of these risks.
    """
    renewed = [each.risk for each in gate.certificates if each.risk in data.samples]
    if not renewed:
        raise GateError(f"the gate promises none of {', '.join(risk.value for risk in data.samples)}")
    judged = {risk: _halves(data.samples[risk], labels) for risk in renewed}
    rules = _rules(gate, judged, least_score(gate.score, len(labels)))
    certificates = [
        _certificate(gate, old, judged[old.risk], rules, data, least_score(gate.score, len(labels)))
        if old.risk in judged
        else old
        for old in gate.certificates
    ]
    everything = _judged(data.samples[renewed[0]], labels)
    return replace(
        gate,
        full_model_digest=data.full_model_digest,
        certificates=tuple(certificates),
        label_rules=rules,
        score_histogram=score_histogram(everything) if gate.score_histogram else None,
    )


def attainable(certificate: Certificate, alpha: float) -> str:
    """Why a certificate has no threshold for `alpha`, and what is to be had."""
    step = certificate.step(alpha)
    return f"{certificate.risk.value} at {alpha:g}: {step.reason}{shortfall_words(step.shortfall)}"


@dataclass(frozen=True)
class _Halves:
    tuned: Judged
    tested: Judged


def _halves(sample: FieldSample, labels: Sequence[str]) -> _Halves:
    judged = _judged(sample, labels)
    return _Halves(judged.where(sample.tunes), judged.where(~sample.tunes))


def _judged(sample: FieldSample, labels: Sequence[str]) -> Judged:
    """Without logits, which the field does not send: the answers and what became of them are all that is asked."""
    indices = {label: index for index, label in enumerate(labels)}
    answers = np.array([indices.get(label, len(labels)) for label in sample.labels], dtype=np.int64)
    truth = np.where(sample.wrong, OUT_OF_SCOPE, answers)
    return Judged(
        Predictions(np.zeros((len(sample), 0)), truth, truth), answers, sample.scores, 1.0 - sample.probabilities
    )


def _rules(gate: Gate, judged: Mapping[Risk, _Halves], least: float) -> tuple[LabelRule, ...]:
    risk = gate.label_risk
    if risk not in judged:
        return gate.label_rules
    halves = judged[risk]
    return tuple(
        label_rule(
            halves.tuned, halves.tested, CriticalLabel(rule.label, rule.index, rule.certified.alpha), risk, rule.delta,
            least,
        )
        if rule.certified
        else rule
        for rule in gate.label_rules
    )  # fmt: skip


def _certificate(
    gate: Gate, old: Certificate, halves: _Halves, rules: tuple[LabelRule, ...], data: FieldData, least: float
) -> Certificate:
    alphas = tuple(step.alpha for step in old.steps)
    promise = Promise(old.risk, alphas, old.delta, gate.in_force.get(old.risk, alphas[0]), old.guarantee)
    sample = data.samples[old.risk]
    words = f"field, {data.place}, from {_written(sample.first_s)} to {_written(sample.last_s)}, {len(sample)} requests"
    provenance = Provenance(gate.model_digest, data.full_model_digest, words, sample.digest, data.code_version)
    return make_certificate(halves.tuned, halves.tested, promise, rules, least, provenance)


def _written(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
