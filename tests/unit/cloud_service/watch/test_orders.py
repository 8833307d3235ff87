from __future__ import annotations

import pytest

from cloud_service.watch.orders import Order, make_policy, order_of, threshold_in_force
from shared.errors import GateError, InputError
from shared.gate_policy import obeyed
from shared.types import GatePolicy
from tests.support.audited_model import IN_FORCE, audited_gate

GATE = audited_gate()
NOW_MS = 1_800_000_000_000


def made(order: Order, *, newest: int = 0, ring: str = "early") -> GatePolicy:
    return make_policy(
        GATE, order, model="intents", ring=ring, newest_sequence=newest, issued_by="ada", now_unix_ms=NOW_MS
    )


@pytest.mark.parametrize(
    ("order", "threshold"),
    [
        (Order(), IN_FORCE),
        (Order(in_force={"kept-disagreement": 0.01}), 0.8),
        (Order(in_force={"kept-disagreement": 0.05, "kept-error": 0.02}), 0.6),
        (Order(least_threshold=0.7), 0.7),
        (Order(escalate_all=True), None),
    ],
)
def test_what_is_certified_or_stricter_is_an_order_that_devices_obey(order: Order, threshold: float | None) -> None:
    policy = made(order)
    assert threshold_in_force(GATE, policy) == threshold
    assert obeyed(GATE, policy).keeper(GATE).threshold == threshold
    assert order_of(policy) == order


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (Order(in_force={"kept-disagreement": 0.04}), "not certified"),
        (Order(in_force={"joint": 0.05}), "no certificate for joint"),
        (Order(in_force={"hope": 0.05}), "no risk"),
        (Order(least_threshold=0.3), "looser"),
        (Order(least_threshold=float("nan")), "no number"),
        (Order(audit_share=1.5), "audit_share"),
        (Order(offload_cap=0.3), "budget_in_force"),
        (Order(offload_cap=0.3, budget_in_force={"kept-error": 0.3}), "not certified"),
    ],
)
def test_what_is_neither_is_no_order(order: Order, words: str) -> None:
    with pytest.raises(GateError, match=words):
        made(order)


def test_an_order_is_newer_than_the_one_before_whatever_the_clock_says() -> None:
    assert made(Order()).sequence == NOW_MS
    assert made(Order(), newest=NOW_MS + 5).sequence == NOW_MS + 6


def test_orders_to_two_rings_at_one_moment_have_ids_of_their_own() -> None:
    assert made(Order()).policy_id != made(Order(), ring="late").policy_id


def test_a_ring_that_is_no_name_is_refused() -> None:
    with pytest.raises(InputError, match="ring"):
        made(Order(), ring="a/b")
