"""The gate keeps what its certificate covers and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import GateError
from shared.gate import (
    CertifiedThreshold,
    GateKeeper,
    Guarantee,
    LabelRule,
    Risk,
    Score,
    gate_document,
    parse_gate,
    probabilities,
    score_values,
)
from shared.types import Reason
from tests.support.tiny_bundle import tiny_gate

GATE = tiny_gate("0" * 64, 0.9)
LOGITS = np.array([[4.0, 1.0, 0.0], [1.0, 1.0, 1.0], [-2.0, 5.0, 5.0]], np.float32)


def document(**changes: Any) -> bytes:
    fields = json.loads(gate_document(GATE))
    fields.update(changes)
    return json.dumps(fields).encode()


def test_a_gate_survives_being_written_and_read() -> None:
    assert parse_gate(gate_document(GATE)) == GATE


def test_a_sure_prediction_is_kept_and_a_torn_one_escalated() -> None:
    keeper = GateKeeper(GATE)
    sure = keeper.decide(np.array([6, 0, 0], np.float32))
    torn = keeper.decide(np.array([6, 6, 0], np.float32))
    assert (sure.keep, sure.reason) == (True, Reason.CONFIDENT)
    assert (torn.keep, torn.reason) == (False, Reason.UNCERTAIN)


def test_a_score_at_the_threshold_is_kept() -> None:
    logits = np.array([2.0, 1.0, 0.0], np.float32)
    at = float(score_values(logits[np.newaxis], Score.MAX_PROBABILITY, 1.0)[0])
    assert GateKeeper(tiny_gate("0" * 64, at)).decide(logits).keep


def test_without_a_certified_threshold_everything_is_escalated() -> None:
    decision = GateKeeper(tiny_gate("0" * 64, None)).decide(np.array([99, 0, 0], np.float32))
    assert (decision.keep, decision.reason) == (False, Reason.UNCERTIFIED)


def test_not_a_number_is_never_kept() -> None:
    assert not GateKeeper(GATE).decide(np.array([np.nan, 0, 0], np.float32)).keep


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"in_force": {"kept-error": 0.03}}, "0.03 is not certified"),
        ({"in_force": {"kept-disagreement": 0.05}}, "no certificate for kept-disagreement"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"score": "luck"}, "score"),
        ({"format": 3}, "format 3"),
        ({"policy": {}}, "policy"),
    ],
)
def test_a_gate_that_asks_for_more_than_is_certified_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(GateError, match=said):
        parse_gate(document(**changes))


def test_the_strictest_of_several_risks_is_in_force() -> None:
    fields = json.loads(gate_document(GATE))
    other = json.loads(json.dumps(fields["certificates"][0]))
    other["risk"] = Risk.KEPT_DISAGREEMENT.value
    other["steps"][0]["threshold"] = 0.95
    fields["certificates"].append(other)
    fields["in_force"][Risk.KEPT_DISAGREEMENT.value] = 0.05
    assert parse_gate(json.dumps(fields).encode()).threshold() == 0.95


@pytest.mark.parametrize("score", list(Score))
def test_every_score_is_larger_for_a_surer_prediction(score: Score) -> None:
    values = score_values(LOGITS, score, 1.0)
    assert values.shape == (3,)
    if score is not Score.ENERGY:
        assert values[0] > values[1]
    assert score_values(2 * LOGITS, score, 1.0)[0] > values[0]


@given(st.lists(st.floats(-80, 80, width=32), min_size=2, max_size=90), st.floats(0.05, 20))
def test_scores_are_finite_and_probabilities_sum_to_one(row: list[float], temperature: float) -> None:
    logits = np.array([row], np.float32)
    assert np.isclose(probabilities(logits, temperature).sum(), 1.0)
    assert all(np.isfinite(score_values(logits, score, temperature)).all() for score in Score)


@pytest.mark.parametrize("score", list(Score))
@given(st.lists(st.floats(-80, 80, width=32), min_size=2, max_size=90), st.floats(0.05, 20))
def test_one_prediction_is_judged_exactly_as_many_are(score: Score, row: list[float], temperature: float) -> None:
    logits = np.array(row, np.float32)
    chances, decision = GateKeeper(replace(GATE, score=score, temperature=temperature)).judge(logits)
    np.testing.assert_array_equal(chances, probabilities(logits[np.newaxis], temperature)[0])
    assert decision.score == score_values(logits[np.newaxis], score, temperature)[0]


def test_a_critical_labels_answers_need_its_own_threshold() -> None:
    logits = np.array([0, 4, 0], np.float32)
    assert GateKeeper(GATE).decide(logits).keep
    rule = LabelRule("cash", 1, 0.1, CertifiedThreshold(0.01, 0.99, 300, 0, 0.008, 0.7))
    decision = GateKeeper(replace(GATE, label_rules=(rule,))).decide(logits)
    assert (decision.keep, decision.threshold, decision.reason) == (False, 0.99, Reason.UNCERTAIN)
    assert GateKeeper(replace(GATE, label_rules=(rule,))).decide(np.array([4, 0, 0], np.float32)).keep


def test_answers_of_an_escalated_label_are_never_kept() -> None:
    keeper = GateKeeper(replace(GATE, label_rules=(LabelRule("cash", 1),)))
    decision = keeper.decide(np.array([0, 99, 0], np.float32))
    assert (decision.keep, decision.threshold) == (False, None)


def test_a_gate_may_be_held_stricter_and_never_looser() -> None:
    sure = np.array([6, 0, 0], np.float32)
    assert not GateKeeper(GATE, least_threshold=0.9999).decide(sure).keep
    assert GateKeeper(GATE, least_threshold=0.1).threshold == GATE.threshold()
    assert GateKeeper(GATE, escalates_all=True).decide(sure).reason is Reason.UNCERTIFIED


def test_a_gate_of_the_first_format_is_read_with_what_was_not_known_then() -> None:
    fields = json.loads(document(format=1))
    del fields["label_rules"], fields["score_histogram"]
    for certificate in fields["certificates"]:
        del certificate["guarantee"], certificate["curve"]
        for step in certificate["steps"]:
            del step["shortfall"]
    gate = parse_gate(json.dumps(fields).encode())
    assert gate.threshold() == GATE.threshold()
    assert (gate.label_rules, gate.certificates[0].guarantee) == ((), Guarantee.PROBABILITY)
