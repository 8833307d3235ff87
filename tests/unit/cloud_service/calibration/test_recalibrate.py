"""Certificates from simulated field data whose true risks are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from cloud_service.calibration.recalibrate import FieldData, attainable, recalibrated
from cloud_service.cases.comparison import Comparison
from cloud_service.cases.selection import AuditShares, FieldSample, sample_of_comparisons, sample_of_labels, thinned
from shared.errors import GateError
from shared.gate import Certificate, CertifiedThreshold, Gate, LabelRule, Risk, Score, ScoreHistogram
from tests.support.case_parts import audited, compared, labelled

LABELS = ("card", "cash", "loan")
ALPHAS = (0.05, 0.1, 0.2)
DELTA = 0.1
WORST, POWER = 0.7, 2.5
SHARES = AuditShares(None, {"d1": 0.5, "d2": 0.25})
OLD_THRESHOLD = 0.6


def old_gate(*risks: Risk, alphas: Sequence[float] = ALPHAS) -> Gate:
    steps = tuple(CertifiedThreshold(alpha, OLD_THRESHOLD, 900, 1, 0.01, 0.1) for alpha in alphas)
    certificates = tuple(Certificate(risk, DELTA, 1000, steps, "at first", "0" * 64, "0") for risk in risks)
    in_force = dict.fromkeys(risks, 0.1)
    histogram = ScoreHistogram((0.5,), (1, 1))
    return Gate("a" * 64, "b" * 64, Score.MAX_PROBABILITY, 1.3, in_force, certificates, (), histogram)


def field_of(random: np.random.Generator, requests: int, label: str = "card") -> Iterator[Comparison]:
    """What the store holds of so many requests on two devices: the chance to differ is worst · (1 - score)^power."""
    scores = random.uniform(size=requests)
    differs = random.uniform(size=requests) < WORST * (1 - scores) ** POWER
    chances = random.uniform(size=requests)
    for number, (score, differing, chance) in enumerate(
        zip(scores.tolist(), differs.tolist(), chances.tolist(), strict=True)
    ):
        device = "d1" if number % 2 else "d2"
        right = "other" if differing else label
        same = {"device_id": device, "gate_score": score, "edge_score": score, "full_label": right, "edge_label": label}
        if score < OLD_THRESHOLD:
            yield compared(f"r{number}", **same)
        elif chance < SHARES.by_device[device]:
            yield audited(f"r{number}", **same)


def true_risk(threshold: float) -> float:
    return float(WORST * (1 - max(0.0, threshold)) ** POWER / (POWER + 1))


def data_of(**samples: FieldSample) -> FieldData:
    risks = {"disagreement": Risk.KEPT_DISAGREEMENT, "error": Risk.KEPT_ERROR}
    return FieldData({risks[name]: each for name, each in samples.items()}, "f" * 64, "ring default", "1")


def sampled(random: np.random.Generator, requests: int, seed: int = 0) -> FieldSample:
    return sample_of_comparisons(thinned(field_of(random, requests), SHARES, seed), seed)


def test_the_promise_holds_on_thinned_field_data_as_often_as_it_says() -> None:
    random = np.random.default_rng(4)
    rounds, broken, certified, looser = 300, 0, 0, 0
    for seed in range(rounds):
        old = old_gate(Risk.KEPT_DISAGREEMENT, alphas=(0.1, 0.2))
        gate = recalibrated(old, LABELS, data_of(disagreement=sampled(random, 1400, seed)))
        steps = gate.certificates[0].steps
        found = [(step.alpha, step.threshold) for step in steps if step.threshold is not None]
        broken += any(true_risk(threshold) > alpha for alpha, threshold in found)
        certified += gate.threshold() is not None
        looser += any(threshold < OLD_THRESHOLD for _, threshold in found)
    assert broken <= stats.binom.ppf(0.999, rounds, DELTA)
    assert certified > 0.8 * rounds
    assert looser > 0.5 * rounds, "escalated requests tell what a looser threshold would keep"


def test_the_sample_is_uniform_so_that_expected_offload_and_risk_are_the_fields_own() -> None:
    sample = sampled(np.random.default_rng(1), 40_000)
    below = sample.scores < OLD_THRESHOLD
    assert len(sample) == pytest.approx(10_000, rel=0.05)
    assert below.mean() == pytest.approx(OLD_THRESHOLD, abs=0.02)
    assert sample.wrong.mean() == pytest.approx(true_risk(0.0), abs=0.015)


def test_score_temperature_grid_and_what_is_in_force_stay_and_the_rest_says_field() -> None:
    old = old_gate(Risk.KEPT_ERROR, Risk.KEPT_DISAGREEMENT)
    sample = sampled(np.random.default_rng(2), 8000)
    new = recalibrated(old, LABELS, data_of(disagreement=sample))
    assert (new.score, new.temperature, new.in_force, new.model_digest) == (
        old.score,
        old.temperature,
        old.in_force,
        old.model_digest,
    )
    error, disagreement = new.certificates
    assert error == old.certificates[0], "no labels came back: the old certificate stays as it is"
    assert disagreement.data.startswith("field, ring default, from 2027-01-15T")
    assert disagreement.data_digest == sample.digest
    assert disagreement.n == int((~sample.tunes).sum())
    assert [step.alpha for step in disagreement.steps] == list(ALPHAS)
    assert new.full_model_digest == "f" * 64
    assert new.score_histogram is not None and sum(new.score_histogram.counts) == len(sample)


def test_labels_that_come_back_at_random_certify_error() -> None:
    random = np.random.default_rng(3)
    scores = random.uniform(size=3000)
    wrong = random.uniform(size=3000) < WORST * (1 - scores) ** POWER
    rows = [
        labelled(f"r{number}", gate_score=score, edge_score=score, true_label="loan" if bad else "card")
        for number, (score, bad) in enumerate(zip(scores.tolist(), wrong.tolist(), strict=True))
    ]
    new = recalibrated(old_gate(Risk.KEPT_ERROR), LABELS, data_of(error=sample_of_labels(rows, 0)))
    threshold = new.threshold()
    assert threshold is not None and true_risk(threshold) <= 0.1


def test_too_few_samples_end_with_what_is_attainable() -> None:
    sample = sampled(np.random.default_rng(5), 120)
    new = recalibrated(old_gate(Risk.KEPT_DISAGREEMENT), LABELS, data_of(disagreement=sample))
    assert new.certificates[0].step(0.05).threshold is None
    told = attainable(new.certificates[0], 0.05)
    assert "within reach of these samples" in told and "must offload at least" in told
    none = recalibrated(old_gate(Risk.KEPT_DISAGREEMENT), LABELS, data_of(disagreement=sample_of_comparisons([], 0)))
    assert none.threshold() is None
    assert "there are no calibration samples" in attainable(none.certificates[0], 0.1)


def test_critical_labels_are_certified_anew_on_their_own_answers() -> None:
    rule = LabelRule("cash", 1, 0.05, CertifiedThreshold(0.1, 0.99, 10, 0, 0.1, 0.9))
    never = LabelRule("loan", 2)
    old = replace(old_gate(Risk.KEPT_DISAGREEMENT), label_rules=(rule, never))
    random = np.random.default_rng(6)
    of_cash = [replace(each, request_id=f"c{each.request_id}") for each in field_of(random, 6000, "cash")]
    rows = [*field_of(random, 6000), *of_cash]
    sample = sample_of_comparisons(thinned(rows, SHARES, 0), 0)
    new = recalibrated(old, LABELS, data_of(disagreement=sample))
    anew, still_never = new.label_rules
    assert anew.certified is not None and anew.certified.threshold not in (None, 0.99)
    assert true_risk(anew.threshold) <= 0.1
    assert still_never == never
    tested = sum(label == "card" for label, tunes in zip(sample.labels, sample.tunes, strict=True) if not tunes)
    assert new.certificates[0].n == tested, "answers of critical labels stand outside"


def test_a_gate_that_promises_nothing_of_the_kind_is_refused() -> None:
    sample = sampled(np.random.default_rng(7), 100)
    with pytest.raises(GateError, match="promises none of kept-disagreement"):
        recalibrated(old_gate(Risk.KEPT_ERROR), LABELS, data_of(disagreement=sample))
