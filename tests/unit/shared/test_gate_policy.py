"""A policy chooses among what is certified, or is stricter; anything else is refused."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import GateError
from shared.gate import Certificate, CertifiedThreshold, Gate, GateKeeper, LabelRule, Risk, Score
from shared.gate_policy import GateOrder, bundle_order, concerns, obeyed
from shared.types import GatePolicy, Reason

ALPHAS = (0.01, 0.05, 0.1)
LABELS = 3


def step(alpha: float, threshold: float | None) -> CertifiedThreshold:
    return CertifiedThreshold(alpha, threshold, 900, 9, alpha, 0.1, "" if threshold else "none reaches it")


def certificate(risk: Risk, thresholds: tuple[float | None, ...]) -> Certificate:
    steps = tuple(step(alpha, threshold) for alpha, threshold in zip(ALPHAS, thresholds, strict=True))
    return Certificate(risk, 0.1, 1000, steps, "made up", "0" * 64, "0")


GATE = Gate(
    "a" * 64,
    "b" * 64,
    Score.MAX_PROBABILITY,
    1.0,
    {Risk.KEPT_ERROR: 0.05},
    (
        certificate(Risk.KEPT_ERROR, (None, 0.8, 0.6)),
        certificate(Risk.KEPT_DISAGREEMENT, (0.95, 0.9, 0.5)),
    ),
    (LabelRule("loan", 2, 0.05, step(0.01, 0.97)),),
)


def policy(sequence: int = 1, **words: Any) -> GatePolicy:
    return dataclasses.replace(GatePolicy(f"p{sequence}", sequence, "tiny", GATE.digest), **words)


def threshold(order: GateOrder) -> float | None:
    return order.keeper(GATE).threshold


def test_a_policy_moves_the_gate_to_another_certified_alpha() -> None:
    assert threshold(bundle_order(GATE)) == 0.8
    assert threshold(obeyed(GATE, policy(in_force={"kept-error": 0.1}))) == 0.6
    assert threshold(obeyed(GATE, policy(in_force={"kept-error": 0.1, "kept-disagreement": 0.05}))) == 0.9
    assert threshold(obeyed(GATE, policy())) == 0.8


def test_an_alpha_that_no_threshold_reaches_escalates_everything() -> None:
    assert threshold(obeyed(GATE, policy(in_force={"kept-error": 0.01}))) is None


def test_a_policy_may_escalate_everything_and_says_uncertified() -> None:
    order = obeyed(GATE, policy(escalate_all=True, budget_in_force={"kept-error": 0.1}))
    decision = order.keeper(GATE).decide(np.array([30.0, 0.0, 0.0], np.float32))
    assert (decision.keep, decision.reason) == (False, Reason.UNCERTIFIED)
    assert order.loosened_keeper(GATE) is None


def test_a_threshold_may_be_stricter_than_the_certified_one_and_never_looser() -> None:
    assert threshold(obeyed(GATE, policy(least_threshold=0.85))) == 0.85
    with pytest.raises(GateError, match=r"0\.79 is looser than 0\.8"):
        obeyed(GATE, policy(least_threshold=0.79))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"in_force": {"kept-error": 0.07}}, "alpha 0.07 is not certified"),
        ({"in_force": {"joint": 0.05}}, "no certificate for joint"),
        ({"in_force": {"luck": 0.05}}, "'luck'"),
        ({"budget_in_force": {"kept-error": 0.2}}, "alpha 0.2 is not certified"),
        ({"gate_digest": "c" * 64}, "speaks of gate cccccccccccc"),
        ({"gate_digest": ""}, "speaks of gate none"),
    ],
)
def test_what_is_not_certified_for_this_gate_is_refused(words: dict[str, Any], said: str) -> None:
    with pytest.raises(GateError, match=said):
        obeyed(GATE, policy(**words))


def test_a_policy_of_another_gate_concerns_nobody_here() -> None:
    assert concerns(GATE, policy())
    assert not concerns(GATE, policy(gate_digest="c" * 64))
    assert not concerns(None, policy(gate_digest=""))


def test_a_policy_that_is_no_newer_is_refused() -> None:
    in_force = obeyed(GATE, policy(5))
    for sequence in (4, 5):
        with pytest.raises(GateError, match="is not above 5"):
            obeyed(GATE, policy(sequence), in_force)
    assert obeyed(GATE, policy(6), in_force).sequence == 6


def test_a_budget_of_the_device_must_be_certified_too() -> None:
    loosened = bundle_order(GATE, loosest={Risk.KEPT_ERROR: 0.1}).loosened_keeper(GATE)
    assert loosened is not None and loosened.threshold == 0.6
    assert bundle_order(GATE).loosened_keeper(GATE) is None
    with pytest.raises(GateError, match=r"alpha 0\.3 is not certified"):
        bundle_order(GATE, loosest={Risk.KEPT_ERROR: 0.3})


def test_a_policys_own_budget_holds_and_no_other() -> None:
    order = obeyed(GATE, policy(offload_cap=0.2, budget_in_force={"kept-error": 0.1}))
    loosened = order.loosened_keeper(GATE)
    assert order.offload_cap == 0.2 and loosened is not None and loosened.threshold == 0.6
    assert obeyed(GATE, policy()).loosened_keeper(GATE) is None


alphas = st.dictionaries(
    st.sampled_from([risk.value for risk in Risk] + ["luck"]), st.sampled_from([*ALPHAS, 0.2, 0.0, -1.0]), max_size=3
)
policies = st.builds(
    policy,
    st.integers(0, 3),
    in_force=alphas,
    escalate_all=st.booleans(),
    least_threshold=st.none() | st.floats(0.0, 1.0),
    budget_in_force=alphas,
)
logit_rows = st.lists(st.floats(-8.0, 8.0, width=32), min_size=LABELS, max_size=LABELS)


@given(st.lists(policies, max_size=5), logit_rows)
def test_no_policy_ever_keeps_what_its_certified_thresholds_do_not(said: list[GatePolicy], row: list[float]) -> None:
    logits, order = np.array(row, np.float32), bundle_order(GATE)
    newest: GateOrder | None = None
    for each in said:
        try:
            newest = order = obeyed(GATE, each, newest)
        except GateError:
            continue
        for kept_by, chosen in ((order.keeper(GATE), order.in_force), (order.loosened_keeper(GATE), None)):
            if kept_by is None:
                continue
            certified = GateKeeper(dataclasses.replace(GATE, in_force=dict(chosen or order.loosened_in_force)))
            if kept_by.decide(logits).keep:
                assert certified.decide(logits).keep
            assert (
                kept_by.threshold is None
                or kept_by.threshold in GATE.certified_thresholds()
                or (certified.threshold is not None and kept_by.threshold >= certified.threshold)
            )


def test_a_critical_label_keeps_its_own_rule_under_every_policy() -> None:
    surest_loan = np.array([0.0, 0.0, 3.5], np.float32)
    orders = [bundle_order(GATE), obeyed(GATE, policy(in_force={"kept-disagreement": 0.1}))]
    for order in orders:
        decision = order.keeper(GATE).decide(surest_loan)
        assert 0.9 < decision.score < 0.97 and not decision.keep and decision.threshold == 0.97
    assert math.isclose(orders[1].keeper(GATE).threshold or 0.0, 0.5)
