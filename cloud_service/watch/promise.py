"""What is in force for a gate in a ring, and so what its watches hold it to. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cloud_service.watch.orders import threshold_in_force
from cloud_service.watch.records import KnownGate, WatchKind, WatchState
from shared.gate import Risk
from shared.types import GatePolicy

_RISKS = {WatchKind.DISAGREEMENT: Risk.KEPT_DISAGREEMENT, WatchKind.ERROR: Risk.KEPT_ERROR}
_WATCHES = {risk: kind for kind, risk in _RISKS.items()}


@dataclass(frozen=True)
class Promise:
    """`steps`: the gate's certified thresholds, strict to loose; `threshold`: kept from there on (None: nothing).

    `alphas` by the watch that holds it. `label_alphas` of critical labels are held by `label_watch` alone; of labels
    `ruled`, `alphas` do not speak. `labels`: how many the model has; `calibration`: scores by bin; `policy_id`: of the
    order in force, "" for the bundle's own.
    """

    steps: tuple[float, ...] = ()
    threshold: float | None = None
    is_tightened: bool = False
    alphas: Mapping[WatchKind, float] = field(default_factory=dict)
    label_alphas: Mapping[str, float] = field(default_factory=dict)
    label_watch: WatchKind = WatchKind.ERROR
    ruled: frozenset[str] = frozenset()
    labels: int = 0
    calibration: tuple[int, ...] = ()
    policy_id: str = ""

    def critical_alpha(self, kind: WatchKind, label: str) -> float | None:
        """What a critical label is promised of this watch's risk; None: nothing."""
        return self.label_alphas.get(label) if kind is self.label_watch else None

    def label_alpha(self, kind: WatchKind, label: str) -> float | None:
        """What any label is held to: a critical one to its own alpha, others to the gate's; None: to none."""
        return self.critical_alpha(kind, label) if label in self.ruled else self.alphas.get(kind)

    def state(self, kind: WatchKind) -> WatchState:
        """What the gate is worth to this watch."""
        if not self.steps or (kind is not WatchKind.DRIFT and kind not in self.alphas):
            return WatchState.UNWATCHED
        if self.threshold is None:
            return WatchState.UNCERTIFIED
        return WatchState.TIGHTENED if self.is_tightened else WatchState.CERTIFIED


NO_PROMISE = Promise()


def promise_of(known: KnownGate, policy: GatePolicy | None) -> Promise:
    """What holds under `policy`, the newest for this gate and ring (None: the bundle's own)."""
    gate = known.gate
    in_force = policy.in_force if policy and policy.in_force else {r.value: alpha for r, alpha in gate.in_force.items()}
    threshold, certified = threshold_in_force(gate, policy), threshold_in_force(gate, None, in_force)
    rules = {rule.label: rule.certified.alpha for rule in gate.label_rules if rule.certified}
    return Promise(
        gate.certified_thresholds(),
        threshold,
        threshold is not None and certified is not None and threshold > certified,
        {kind: in_force[risk.value] for kind, risk in _RISKS.items() if risk.value in in_force},
        rules,
        _WATCHES[gate.label_risk],
        frozenset(rule.label for rule in gate.label_rules),
        len(known.labels),
        gate.score_histogram.counts if gate.score_histogram else (),
        policy.policy_id if policy else "",
    )
