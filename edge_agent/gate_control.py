"""What a model's gate obeys: the bundle's own choice, or the newest policy that it takes."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager

from edge_agent.budget import OffloadBudget
from edge_agent.config import BudgetSettings
from edge_agent.model import EdgeModel
from shared.codec import decode_policy
from shared.errors import ConfigurationError, GateError, MessageError
from shared.gate_policy import GateOrder, bundle_order, concerns, obeyed
from shared.tracing import TRACING, UNTRACED, Kind
from shared.types import GatePolicy, GateReport

_log = logging.getLogger(__name__)
_LONGEST_REFUSAL_CHARACTERS = 500


class GateControl:
    """One model's gate under orders. `budget` is the running offload against the cap that holds."""

    def __init__(self, model: EdgeModel, audit_share: float = 0.0, budget: BudgetSettings | None = None) -> None:
        """The bundle's own choice holds, with the device's own `budget`.

        Raises:
            ConfigurationError: the budget names an alpha that the gate does not certify.
        """
        self._model = model
        self._configured_audit_share = audit_share
        self._order: GateOrder | None = None
        self._policy: GateOrder | None = None
        self._payload: bytes | None = None
        self._refused_policy_id = ""
        self._refusal = ""
        budget = budget or BudgetSettings()
        self.budget = OffloadBudget(budget.offload_cap)
        if model.bundle.gate is not None:
            self._obey(_order_of_bundle(model, budget))

    @property
    def audit_share(self) -> float:
        """Which share of the kept answers is to be audited."""
        ordered = self._order.audit_share if self._order else None
        return self._configured_audit_share if ordered is None else ordered

    @property
    def payload(self) -> bytes | None:
        """The policy in force as it came, to be kept over a restart; None where there is none."""
        return self._payload

    @property
    def gate_digest(self) -> str:
        """Of the gate that is under orders; "" where the bundle brings none."""
        return self._model.gate_digest

    def hear(self, payload: bytes) -> None:
        """Obey the policy in `payload`, or refuse it and say why in the report.

        One that is in force already, is empty (taken back) or speaks of another gate changes nothing.
        """
        if not payload:
            return
        try:
            policy = decode_policy(payload)
            if policy.model != self._model.identity.name:
                raise MessageError(f"it is for model {policy.model}")
        except MessageError as error:
            self._refuse("", str(error))
            return
        gate = self._model.bundle.gate
        if gate is None or not concerns(gate, policy):
            _log.info("policy %s speaks of another gate and is left aside", policy.policy_id)
            return
        if self._policy is not None and self._policy.policy_id == policy.policy_id:
            return
        try:
            order = obeyed(gate, policy, self._policy)
        except GateError as error:
            self._refuse(policy.policy_id, str(error))
            return
        with _policy_span(policy) if TRACING.is_on else UNTRACED:
            self._obey_policy(order, policy, payload)

    def report(self) -> GateReport:
        """What the gate obeys, for the fleet."""
        in_force = self._order.in_force if self._order else {}
        return GateReport(
            score=self._model.gate_score,
            threshold=self._model.gate_threshold,
            digest=self._model.gate_digest,
            in_force={risk.value: alpha for risk, alpha in in_force.items()},
            policy_id=self._order.policy_id if self._order else "",
            refused_policy_id=self._refused_policy_id,
            refusal=self._refusal,
        )

    def _obey_policy(self, order: GateOrder, policy: GatePolicy, payload: bytes) -> None:
        self._obey(order)
        self._policy, self._payload = order, payload
        self._refused_policy_id = self._refusal = ""
        self.budget = OffloadBudget(order.offload_cap)
        threshold = self._model.gate_threshold
        keeps = "escalates all" if threshold is None else f"keeps from {threshold:.4f}"
        _log.info("model %s obeys policy %s: %s (%s)", policy.model, policy.policy_id, keeps, policy.reason or "unsaid")

    def _obey(self, order: GateOrder) -> None:
        self._model.obey(order)
        self._order = order

    def _refuse(self, policy_id: str, why: str) -> None:
        why = why[:_LONGEST_REFUSAL_CHARACTERS]
        if (policy_id, why) != (self._refused_policy_id, self._refusal):
            _log.warning("model %s refuses policy %s: %s", self._model.identity.name, policy_id or "without id", why)
        self._refused_policy_id, self._refusal = policy_id, why


def _policy_span(policy: GatePolicy) -> AbstractContextManager[None]:
    attributes = {"tandem.policy_id": policy.policy_id, "tandem.model": policy.model}
    return TRACING.span("obey policy", kind=Kind.CONSUMER, parent=policy.traceparent, attributes=attributes)


def _order_of_bundle(model: EdgeModel, budget: BudgetSettings) -> GateOrder:
    assert model.bundle.gate is not None
    try:
        return bundle_order(model.bundle.gate, offload_cap=budget.offload_cap, loosest=budget.loosest)
    except GateError as error:
        raise ConfigurationError(f"budget.loosest: {model.identity.name}: {error}") from error
