"""Orders to the devices of a ring: made here, and valid against the gate or not made at all. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from shared.documents import sha256
from shared.errors import GateError
from shared.gate import Gate, GateKeeper, Risk
from shared.gate_policy import obeyed
from shared.tracing import TRACING
from shared.types import GatePolicy, checked_identifier

_MAX_REASON_CHARACTERS = 500


@dataclass(frozen=True)
class Order:
    """What is to hold. `in_force` and `budget_in_force` from risk to alpha; see fleet.proto's GatePolicy."""

    in_force: Mapping[str, float] = field(default_factory=dict)
    escalate_all: bool = False
    least_threshold: float | None = None
    audit_share: float | None = None
    offload_cap: float | None = None
    budget_in_force: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""


def make_policy(
    gate: Gate, order: Order, *, model: str, ring: str, newest_sequence: int, issued_by: str, now_unix_ms: int
) -> GatePolicy:
    """The policy that says `order` to the devices of `ring` with `gate`.

    `newest_sequence`: the largest that any order to this ring and model has (0: none). The new one is larger, so that
    devices heed it, whatever the clock says.

    Raises:
        GateError: an alpha is not certified or reaches no threshold, `least_threshold` is looser than what is
            certified, a share lies outside [0, 1], or a cap on offload has nothing to loosen to.
        InputError: `model` or `ring` is no name.
    """
    _require_thresholds(gate, order)
    _require_shares(order)
    sequence = max(newest_sequence + 1, now_unix_ms)
    place = sha256(f"{checked_identifier('ring', ring)}/{checked_identifier('model', model)}".encode())[:12]
    policy = GatePolicy(
        policy_id=f"p{sequence}-{place}",
        sequence=sequence,
        model=model,
        gate_digest=gate.digest,
        in_force=dict(order.in_force),
        escalate_all=order.escalate_all,
        least_threshold=order.least_threshold,
        audit_share=order.audit_share,
        offload_cap=order.offload_cap,
        budget_in_force=dict(order.budget_in_force),
        reason=order.reason[:_MAX_REASON_CHARACTERS],
        issued_by=issued_by,
        issued_at_unix_ms=now_unix_ms,
        traceparent=TRACING.traceparent(),
    )
    obeyed(gate, policy)
    return policy


def order_of(policy: GatePolicy) -> Order:
    """What a policy says, to say it again with changes."""
    return Order(
        policy.in_force,
        policy.escalate_all,
        policy.least_threshold,
        policy.audit_share,
        policy.offload_cap,
        policy.budget_in_force,
        policy.reason,
    )


def threshold_in_force(
    gate: Gate, policy: GatePolicy | None, in_force: Mapping[str, float] | None = None
) -> float | None:
    """From which score on a device with `gate` keeps answers under `policy`; None where it escalates all.

    Raises:
        GateError: the policy names an alpha that is not certified.
    """
    asked = in_force or (policy.in_force if policy else None)
    chosen = replace(gate, in_force=_risks(asked)) if asked else gate
    least = policy.least_threshold if policy and policy.least_threshold is not None else -math.inf
    escalates_all = policy.escalate_all if policy else False
    return GateKeeper(chosen, least_threshold=least, escalates_all=escalates_all).threshold


def _require_thresholds(gate: Gate, order: Order) -> None:
    for alphas in (order.in_force, order.budget_in_force):
        for risk, alpha in _risks(alphas).items():
            if gate.certificate(risk).step(alpha).threshold is None:
                raise GateError(f"no threshold is certified for {risk.value} at alpha {alpha:g}")


def _require_shares(order: Order) -> None:
    for name, share in (("audit_share", order.audit_share), ("offload_cap", order.offload_cap)):
        if share is not None and not 0.0 <= share <= 1.0:
            raise GateError(f"{name} {share} is no share in [0, 1]")
    if order.offload_cap is not None and not order.budget_in_force:
        raise GateError("an offload cap needs the alphas that the gate may loosen to (budget_in_force)")
    if order.least_threshold is not None and not math.isfinite(order.least_threshold):
        raise GateError(f"least_threshold {order.least_threshold} is no number")


def _risks(alphas: Mapping[str, float]) -> dict[Risk, float]:
    known = {risk.value: risk for risk in Risk}
    if strange := alphas.keys() - known.keys():
        raise GateError(f"{sorted(strange)[0]!r} is no risk; choose of {', '.join(known)}")
    return {known[risk]: alpha for risk, alpha in alphas.items()}
