"""The desk where all watches lie: evidence in, alarms and orders out. Pure.

`plan` says what is concluded and changes nothing; `applied` takes it over once the store has committed it. So the desk
always equals the store, also when a commit fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from cloud_service.watch import risk_watch
from cloud_service.watch.alarms import drift_alarm, label_alarm, risk_alarm
from cloud_service.watch.drift_watch import after_scores, is_drifting
from cloud_service.watch.evidence import Evidence
from cloud_service.watch.orders import make_policy, order_of
from cloud_service.watch.promise import NO_PROMISE, Promise, promise_of
from cloud_service.watch.records import (
    GateAlarm,
    GateKey,
    GateWatch,
    IssuedPolicy,
    KnownGate,
    WatchKey,
    WatchKind,
    WatchRecords,
)
from cloud_service.watch.risk_watch import RiskIncrease
from cloud_service.watch.settings import WatchRules
from shared.errors import GateError
from shared.gate_policy import obeyed
from shared.tracing import TRACING, UNTRACED
from shared.types import GatePolicy

ISSUED_BY = "tandem"
"""Who issues the orders that no operator gave."""

_Place = tuple[str, str, str]
"""Ring, model and gate digest."""


@dataclass(frozen=True)
class Decisions:
    """What one transaction writes: watches whole, alarms and orders as new rows."""

    watches: Mapping[WatchKey, GateWatch] = field(default_factory=dict)
    alarms: tuple[GateAlarm, ...] = ()
    policies: tuple[IssuedPolicy, ...] = ()


class WatchDesk:
    """Begins with what the store holds."""

    def __init__(self, records: WatchRecords, rules: WatchRules) -> None:
        self._rules = rules
        self._gates = {known.digest: known for known in records.gates}
        self._watches = {watch.key: watch for watch in records.watches}
        self._policies: dict[_Place, IssuedPolicy] = {}
        self.heed(records.policies)

    def _would_be_obeyed(self, policy: GatePolicy) -> bool:
        """Devices refuse what is not; the order before it stays in force."""
        known = self._gates.get(policy.gate_digest)
        try:
            return known is None or obeyed(known.gate, policy) is not None
        except GateError:
            return False

    @property
    def watches(self) -> Iterable[GateWatch]:
        """Every watch."""
        return self._watches.values()

    def heed(self, policies: Iterable[IssuedPolicy]) -> None:
        """Take over orders that are in the store, an operator's among them; the newest holds."""
        for issued in policies:
            place = (issued.ring, issued.policy.model, issued.policy.gate_digest)
            held = self._policies.get(place)
            is_newer = held is None or issued.policy.sequence >= held.policy.sequence
            if is_newer and self._would_be_obeyed(issued.policy):
                self._policies[place] = issued

    def plan(self, evidence: Mapping[GateKey, Evidence], now_ms: int) -> Decisions:
        """What `evidence`, and orders heeded since the last plan, change at `now_ms` (Unix time)."""
        plan = _Plan(self, self._rules, now_ms)
        for watch in list(self._watches.values()):
            plan.begin_anew_where_outdated(watch)
        for gate, found in evidence.items():
            plan.judge(gate, found)
        return plan.decisions()

    def applied(self, decisions: Decisions) -> None:
        """The store has committed `decisions`."""
        self._watches.update(decisions.watches)
        self.heed(decisions.policies)

    def known(self, gate: GateKey) -> KnownGate | None:
        """The gate's document, where the cloud has it."""
        return self._gates.get(gate.gate_digest)

    def watch(self, key: WatchKey) -> GateWatch | None:
        """What is committed of a watch."""
        return self._watches.get(key)

    def policy(self, gate: GateKey) -> GatePolicy | None:
        """The newest order for this gate in its ring."""
        held = self._policies.get((gate.ring, gate.model, gate.gate_digest))
        return held.policy if held else None

    def promise(self, gate: GateKey) -> Promise:
        """What is in force for this gate."""
        known = self.known(gate)
        return promise_of(known, self.policy(gate)) if known else NO_PROMISE

    def newest_sequence(self, gate: GateKey) -> int:
        """The largest sequence of any order to this ring and model, 0 where there is none."""
        told = (
            issued.policy.sequence
            for (ring, model, _), issued in self._policies.items()
            if (ring, model) == (gate.ring, gate.model)
        )
        return max(told, default=0)


@dataclass(frozen=True)
class _Tightening:
    """To which threshold a gate is tightened (None: nothing is kept), and the first alarm that says why."""

    gate: GateKey
    target: float | None
    alarm: GateAlarm


class _Plan:
    """Decisions in the making, on top of a desk."""

    def __init__(self, desk: WatchDesk, rules: WatchRules, now_ms: int) -> None:
        self._desk = desk
        self._rules = rules
        self._now_ms = now_ms
        self._now_s = now_ms // 1000
        self._watches: dict[WatchKey, GateWatch] = {}
        self._alarms: list[GateAlarm] = []
        self._tightened: dict[_Place, _Tightening] = {}

    def begin_anew_where_outdated(self, watch: GateWatch) -> None:
        """Where another order is in force than the one that the watch counts under, or the gate became known."""
        promise = self._desk.promise(watch.key.gate)
        is_same_order = watch.detail.policy_id == promise.policy_id
        if watch.key.kind is WatchKind.DRIFT:
            if not is_same_order or watch.state is not promise.state(WatchKind.DRIFT):
                # scores do not depend on the threshold: what was seen of them stays
                detail = replace(watch.detail, policy_id=promise.policy_id)
                state = promise.state(WatchKind.DRIFT)
                self._watches[watch.key] = replace(watch, state=state, threshold=promise.threshold, detail=detail)
        elif not is_same_order or watch.alpha != promise.alphas.get(watch.key.kind):
            self._watches[watch.key] = risk_watch.begun(watch.key, promise, self._now_s)

    def judge(self, gate: GateKey, found: Evidence) -> None:
        promise = self._desk.promise(gate)
        self._judge_risk(gate, WatchKind.DISAGREEMENT, promise, RiskIncrease(found.audits, found.audits_by_label))
        self._judge_risk(gate, WatchKind.ERROR, promise, RiskIncrease(found.labelled, found.labelled_by_label))
        self._judge_scores(gate, promise, found.scores)

    def decisions(self) -> Decisions:
        policies: list[IssuedPolicy] = []
        for tightening in self._tightened.values():
            policies.append(self._order(tightening, policies))
        return Decisions(self._watches, tuple(self._alarms), tuple(policies))

    def _judge_risk(self, gate: GateKey, kind: WatchKind, promise: Promise, increase: RiskIncrease) -> None:
        key = WatchKey(gate, kind)
        before = self._watch(key, promise)
        is_first = before.judged == 0 and not before.labels
        if kind is WatchKind.ERROR and is_first and not increase.judges_any:
            return
        watch = risk_watch.after(before, promise, increase, self._rules, self._now_s)
        for label in risk_watch.alarmed_labels(watch, promise):
            self._alarms.append(label_alarm(watch, label, promise.label_alphas[label], self._now_ms))
            labels = {**watch.labels, label: replace(watch.labels[label], alarmed=True)}
            watch = replace(watch, labels=labels)
        if watch != before or key not in self._watches:
            self._watches[key] = watch
        if not watch.detail.alarmed and risk_watch.is_alarming(watch, self._rules):
            self._alarm(watch)

    def _alarm(self, watch: GateWatch) -> None:
        target = risk_watch.step_to_tighten_to(watch, self._rules)
        alarm = risk_alarm(watch, target, risk_watch.lower_bound(watch, self._rules), self._now_ms)
        self._alarms.append(alarm)
        gate = watch.key.gate
        place = (gate.ring, gate.model, gate.gate_digest)
        earlier = self._tightened.get(place, _Tightening(gate, target, alarm))
        strictest = None if target is None or earlier.target is None else max(target, earlier.target)
        self._tightened[place] = replace(earlier, target=strictest)
        self._watches[watch.key] = replace(watch, detail=replace(watch.detail, alarmed=True))

    def _judge_scores(self, gate: GateKey, promise: Promise, scores: tuple[int, ...]) -> None:
        if not promise.calibration:
            return
        key = WatchKey(gate, WatchKind.DRIFT)
        before = self._watch(key, promise)
        watch = after_scores(before, promise, scores, self._rules, self._now_s)
        if is_drifting(watch):
            self._alarms.append(drift_alarm(watch, self._now_ms))
            watch = replace(watch, detail=replace(watch.detail, alarmed=True))
        if watch is not before:
            self._watches[key] = watch

    def _watch(self, key: WatchKey, promise: Promise) -> GateWatch:
        found = self._watches.get(key) or self._desk.watch(key)
        return found or risk_watch.begun(key, promise, self._now_s)

    def _order(self, tightening: _Tightening, issued_before: Iterable[IssuedPolicy]) -> IssuedPolicy:
        """What a budget may loosen the gate to was never audited, so it goes when what was audited fails."""
        gate, target = tightening.gate, tightening.target
        known, held = self._desk.known(gate), self._desk.policy(gate)
        assert known is not None, "an alpha is only ever promised by a gate that is known"
        order = order_of(held or GatePolicy("", 0, gate.model, gate.gate_digest))
        order = replace(order, escalate_all=target is None, least_threshold=target, reason=tightening.alarm.text)
        order = replace(order, offload_cap=None, budget_in_force={})
        taken = (issued.policy.sequence for issued in issued_before)
        with TRACING.span("tighten gate") if TRACING.is_on else UNTRACED:
            policy = make_policy(
                known.gate,
                order,
                model=gate.model,
                ring=gate.ring,
                newest_sequence=max((self._desk.newest_sequence(gate), *taken)),
                issued_by=ISSUED_BY,
                now_unix_ms=self._now_ms,
            )
        return IssuedPolicy(policy, gate.ring, self._now_s)
