"""A gate with certificates, and a store that tells of it in the field, written straight into its tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from sqlalchemy import Engine, insert, select

from cloud_service.calibration.binomial import risk_upper_bound
from cloud_service.fleet.book import ModelState
from cloud_service.fleet.buckets import HOUR_S, WHOLE_FLEET, Bucket, CountKey
from cloud_service.fleet.deltas import Series, Snapshot
from cloud_service.fleet.presence import DeviceState
from cloud_service.fleet.tally import NOTHING, Tally
from cloud_service.storage import tables
from cloud_service.storage.rows import count_row, device_row, state_row
from cloud_service.storage.watch_rows import alarm_row, gate_row, policy_of, policy_row, watch_row
from cloud_service.watch.confidence import BetaMixture
from cloud_service.watch.records import (
    AlarmKind,
    GateAlarm,
    GateKey,
    GateWatch,
    IssuedPolicy,
    KnownGate,
    LabelFigures,
    StepFigures,
    WatchKey,
    WatchKind,
    WatchState,
)
from shared.gate import Certificate, CertifiedThreshold, CurvePoint, Gate, LabelRule, Risk, Score, Shortfall
from shared.types import AuditCounts, GateReport, RequestCounters

MODEL = "banking77"
ALPHAS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1)
_N = 1200
_DELTA = 0.1
_LEVEL = 0.05


def certified_gate() -> Gate:
    """Both risks certified over a grid whose smallest alphas no threshold reaches; two labels are critical."""
    random = np.random.default_rng(77)
    scores = np.sort(random.beta(3.0, 0.7, _N))[::-1]
    wrong = random.random(_N) < 0.3 * (1.0 - scores) ** 0.7
    differs = wrong & (random.random(_N) < 0.6)
    return Gate(
        model_digest="a" * 64,
        full_model_digest="b" * 64,
        score=Score.MARGIN,
        temperature=1.26,
        in_force={Risk.KEPT_ERROR: 0.05, Risk.KEPT_DISAGREEMENT: 0.03},
        certificates=(
            _certificate(Risk.KEPT_ERROR, scores, wrong.cumsum()),
            _certificate(Risk.KEPT_DISAGREEMENT, scores, differs.cumsum()),
        ),
        label_rules=(
            LabelRule("lost_or_stolen_card", 3),
            LabelRule("compromised_card", 5, 0.05, CertifiedThreshold(0.01, 0.97, 40, 0, 0.0099, 0.2)),
        ),
    )


def _certificate(risk: Risk, scores: np.ndarray, errors: np.ndarray) -> Certificate:
    """The k-th entry of `errors` counts those among the k + 1 surest."""
    bounds = risk_upper_bound(errors, np.arange(1, _N + 1), _DELTA)
    steps = []
    for alpha in ALPHAS:
        passed = np.flatnonzero(bounds <= alpha)
        if len(passed) == 0:
            shortfall = Shortfall(0.02, 0.05, 900)
            steps.append(CertifiedThreshold(alpha, None, 0, 0, 1.0, 1.0, "too few samples to show it", shortfall))
            continue
        last = int(passed[-1])
        kept, wrong = last + 1, int(errors[last])
        steps.append(CertifiedThreshold(alpha, float(scores[last]), kept, wrong, float(bounds[last]), 1 - kept / _N))
    curve = tuple(CurvePoint(float(scores[k]), k + 1, int(errors[k])) for k in range(19, _N, 20))
    return Certificate(risk, _DELTA, _N, tuple(steps), "held-out texts", "c" * 64, "0.4.0", curve=curve)


class WatchedGates:
    """Writes what the fleet service would, into a store whose tables are there."""

    def __init__(self, engine: Engine, now_s: int, gate: Gate | None = None) -> None:
        self.gate = gate or certified_gate()
        self.known = KnownGate(self.gate.digest, MODEL, "7", self.gate, ("card_arrival", "lost_or_stolen_card"))
        self._engine = engine
        self._now_s = now_s

    def add_gate(self) -> None:
        with self._engine.begin() as connection:
            connection.execute(insert(tables.gates).values(gate_row(self.known)))

    def add_device(
        self, name: str, ring: str = "default", *, report: GateReport | None = None, seen_s: int = 0
    ) -> None:
        """`seen_s`: seconds ago. Without a report of its own it obeys the bundle's."""
        told = report or self.report()
        device = DeviceState(name, "boot1", True, "0.4.0", self._now_s - 9000, self._now_s - seen_s, ring)
        series = Series(name, MODEL, "boot1", "7", "")
        state = ModelState(series, Snapshot(1, NOTHING), "a" * 64, told, "closed", self._now_s - seen_s, ring)
        with self._engine.begin() as connection:
            connection.execute(insert(tables.devices).values(device_row(device)))
            connection.execute(insert(tables.model_states).values(state_row(state)))

    def report(self, **changes: object) -> GateReport:
        """What a device says that obeys the bundle's own choice, with `changes`."""
        in_force = {risk.value: alpha for risk, alpha in self.gate.in_force.items()}
        own = GateReport(self.gate.score.value, self.gate.threshold(), self.gate.digest, in_force)
        return replace(own, **changes)  # type: ignore[arg-type]

    def add_requests(self, ring: str, accepted: int, wanted: int, audited: int) -> None:
        """Requests of the last hour."""
        counters = RequestCounters(
            received=accepted, accepted=accepted, edge=accepted - wanted, cloud=wanted, wanted=wanted
        )
        tally = Tally(counters, audits=AuditCounts(audited, audited, 0))
        starts_s = self._now_s - self._now_s % HOUR_S
        key = CountKey(Bucket(HOUR_S, starts_s), WHOLE_FLEET, MODEL, "7", "", ring)
        with self._engine.begin() as connection:
            connection.execute(insert(tables.counts).values(count_row(key, tally)))

    def add_audits(self, ring: str, judged: int, wrong: int, state: WatchState = WatchState.CERTIFIED) -> None:
        """Audits of the step in force, and in proportion of all others."""
        alpha, threshold = self.gate.in_force[Risk.KEPT_DISAGREEMENT], self.gate.threshold()
        lower, upper = _interval(wrong, judged, alpha)
        steps = tuple(
            _step(each, int(judged * (0.6 + 0.05 * place)), int(wrong * (0.3 + 0.06 * place)), alpha)
            for place, each in enumerate(self.gate.certified_thresholds())
        )
        labels = {
            label: LabelFigures(
                judged // share, wrong // share, *_interval(wrong // share, judged // share, alpha), alpha
            )
            for label, share in (("card_arrival", 5), ("top_up_failed", 9), ("exchange_rate", 20))
        }
        watch = GateWatch(
            WatchKey(GateKey(MODEL, "7", self.gate.digest, ring), WatchKind.DISAGREEMENT),
            state,
            alpha,
            None if state is WatchState.UNCERTIFIED else threshold,
            judged,
            wrong,
            lower,
            upper,
            1.2,
            4.6,
            steps,
            labels,
            since_s=self._now_s - 8000,
            updated_s=self._now_s,
        )
        with self._engine.begin() as connection:
            connection.execute(insert(tables.gate_watches).values(watch_row(watch)))

    def add_alarm(self, ring: str, alarm_id: str = "alarm1") -> None:
        """One that nobody has acknowledged."""
        text = "At least 4.1% of 1,240 audits disagree; at most 3% is promised. All is escalated."
        gate = GateKey(MODEL, "7", self.gate.digest, ring)
        alarm = GateAlarm(alarm_id, gate, AlarmKind.DISAGREEMENT, self._now_s - 300, text)
        with self._engine.begin() as connection:
            connection.execute(insert(tables.gate_alarms).values(alarm_row(alarm)))

    def add_policy(self, issued: IssuedPolicy) -> None:
        with self._engine.begin() as connection:
            connection.execute(insert(tables.gate_policies).values(policy_row(issued)))

    def policies(self) -> Sequence[IssuedPolicy]:
        """All that were issued, in the order of their sequence."""
        query = select(tables.gate_policies).order_by(tables.gate_policies.c.sequence)
        with self._engine.begin() as connection:
            return [policy_of(row) for row in connection.execute(query).mappings()]


def _step(threshold: float, judged: int, wrong: int, alpha: float) -> StepFigures:
    return StepFigures(threshold, judged, wrong, *_interval(wrong, judged, alpha))


def _interval(wrong: int, judged: int, alpha: float) -> tuple[float, float]:
    lower, upper = BetaMixture.around(alpha).interval(wrong, judged, _LEVEL)
    return float(lower), float(upper)
