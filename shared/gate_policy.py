"""Which of a gate's certified thresholds holds: what a policy may say, and what is refused. Pure.

A policy chooses among what the gate certifies, or is stricter. Nothing that it says can make a gate looser than its
certificates, the loosening that a budget allows included: that too is to a certified alpha, and its answers say so.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.errors import GateError
from shared.gate import Gate, GateKeeper, Risk
from shared.types import GatePolicy


@dataclass(frozen=True)
class GateOrder:
    """How a gate is to be kept. Made by `bundle_order` or `obeyed`, so that every alpha in it is certified.

    `loosened_in_force` is what a budget may loosen the gate to; empty: it may not. `audit_share` None: as set.
    """

    in_force: Mapping[Risk, float]
    policy_id: str = ""
    sequence: int = 0
    escalates_all: bool = False
    least_threshold: float = -math.inf
    audit_share: float | None = None
    offload_cap: float | None = None
    loosened_in_force: Mapping[Risk, float] = field(default_factory=dict)

    def keeper(self, gate: Gate) -> GateKeeper:
        """The gate as ordered."""
        chosen = dataclasses.replace(gate, in_force=dict(self.in_force))
        return GateKeeper(chosen, least_threshold=self.least_threshold, escalates_all=self.escalates_all)

    def loosened_keeper(self, gate: Gate) -> GateKeeper | None:
        """The gate as far as a budget may loosen it; None where it may not. One that escalates all stays so."""
        if not self.loosened_in_force or self.escalates_all:
            return None
        return GateKeeper(dataclasses.replace(gate, in_force=dict(self.loosened_in_force)))


def bundle_order(
    gate: Gate, *, offload_cap: float | None = None, loosest: Mapping[Risk, float] | None = None
) -> GateOrder:
    """What holds without a policy: the bundle's own choice, and the budget that is set on the device.

    Raises:
        GateError: an alpha of `loosest` is not certified.
    """
    allowed = dict(loosest or {})
    _require_certified(gate, allowed)
    return GateOrder(gate.in_force, offload_cap=offload_cap, loosened_in_force=allowed)


def concerns(gate: Gate | None, policy: GatePolicy) -> bool:
    """Whether `policy` speaks of this gate; one of another gate is left aside."""
    return gate is not None and policy.gate_digest == gate.digest


def obeyed(gate: Gate, policy: GatePolicy, in_force: GateOrder | None = None) -> GateOrder:
    """What `policy` orders, where `in_force` holds now (None: no policy yet).

    Under a policy its own budget holds and no other.

    Raises:
        GateError: it speaks of another gate, is no newer than the one in force, names an alpha that is not certified,
            or a threshold looser than the certified one.
    """
    if not concerns(gate, policy):
        raise GateError(f"it speaks of gate {policy.gate_digest[:12] or 'none'}, this one is {gate.digest[:12]}")
    if in_force is not None and policy.sequence <= in_force.sequence:
        raise GateError(f"its sequence {policy.sequence} is not above {in_force.sequence}, which is in force")
    chosen = _alphas(policy.in_force) or dict(gate.in_force)
    loosened = _alphas(policy.budget_in_force)
    _require_certified(gate, chosen)
    _require_certified(gate, loosened)
    return GateOrder(
        in_force=chosen,
        policy_id=policy.policy_id,
        sequence=policy.sequence,
        escalates_all=policy.escalate_all,
        least_threshold=_least_threshold(gate, chosen, policy),
        audit_share=policy.audit_share,
        offload_cap=policy.offload_cap,
        loosened_in_force=loosened,
    )


def _alphas(told: Mapping[str, float]) -> dict[Risk, float]:
    try:
        return {Risk(risk): alpha for risk, alpha in told.items()}
    except ValueError as error:
        raise GateError(f"{error}: it is none that this program knows") from error


def _require_certified(gate: Gate, in_force: Mapping[Risk, float]) -> None:
    for risk, alpha in in_force.items():
        gate.certificate(risk).step(alpha)


def _least_threshold(gate: Gate, chosen: Mapping[Risk, float], policy: GatePolicy) -> float:
    if policy.least_threshold is None:
        return -math.inf
    certified = dataclasses.replace(gate, in_force=dict(chosen)).threshold()
    if certified is not None and not policy.least_threshold >= certified:
        raise GateError(f"its threshold {policy.least_threshold:g} is looser than {certified:g}, which is certified")
    return policy.least_threshold
