"""From what the store says of a gate to what the page of risks shows. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cloud_service.dashboard.risk_chart import Measured, RiskChart, risk_chart
from cloud_service.dashboard.risk_choices import (
    RISK_NAMES,
    Figures,
    Slider,
    alphas_of,
    figures_at,
    sliders_of,
    strictest,
)
from cloud_service.dashboard.risk_progress import Progress, progress_of
from cloud_service.dashboard.wording import count, percent
from cloud_service.fleet.risk_reading import GateReading, RingCounts, RiskReading
from cloud_service.watch.records import (
    GateAlarm,
    GateWatch,
    IssuedPolicy,
    KnownGate,
    LabelFigures,
    StepFigures,
    WatchKind,
    WatchState,
)
from shared.gate import Gate, LabelRule, Risk

_MOST_LABELS = 30
_MOST_POLICIES = 12
_STATE_WORDS = {
    WatchState.CERTIFIED: "as certified",
    WatchState.TIGHTENED: "stricter than certified",
    WatchState.UNCERTIFIED: "uncertified: all is escalated",
    WatchState.UNWATCHED: "not watched yet",
}


@dataclass(frozen=True)
class Interval:
    """A measured risk with its time-uniform interval, held against `alpha` (None: nothing is promised of it).

    `verdict`: `within` (all of it at most alpha), `open` (alpha lies in it), `over`, or `none` (nothing judged).
    """

    judged: int
    wrong: int
    lower: float
    upper: float
    alpha: float | None

    @property
    def risk(self) -> float | None:
        """The estimate; None where nothing was judged."""
        return self.wrong / self.judged if self.judged else None

    @property
    def verdict(self) -> str:
        """See the class."""
        if not self.judged or self.alpha is None:
            return "none"
        if self.lower > self.alpha:
            return "over"
        return "within" if self.upper <= self.alpha else "open"


@dataclass(frozen=True)
class RingRow:
    """One ring's stand. `threshold` None: all is escalated; `is_mixed`: its online devices differ in what they obey."""

    ring: str
    online: int
    devices: int
    threshold: float | None
    in_force: Mapping[Risk, float]
    is_mixed: bool
    policy: IssuedPolicy | None
    counts: RingCounts
    offload: float | None
    disagreement: Interval | None
    error: Interval | None
    drift: GateWatch | None
    state: WatchState
    open_alarms: int
    expected_offload: float

    @property
    def cloud_per_thousand(self) -> float | None:
        """Requests that the gate sent to the cloud today, audits included, of a thousand; None without any."""
        counts = self.counts
        return 1000.0 * (counts.wanted + counts.audited) / counts.accepted if counts.accepted else None

    @property
    def state_words(self) -> str:
        """What the gate is worth now."""
        return _STATE_WORDS[self.state]


@dataclass(frozen=True)
class StepRow:
    """The audits at one certified threshold; `promises` are the alphas certified there, in words."""

    threshold: float
    promises: str
    is_in_force: bool
    interval: Interval


@dataclass(frozen=True)
class LabelRow:
    """Audited answers of one label, their interval, and its rule where it is critical.

    `is_alarmed`: by audits or by true labels, whichever its rule is certified for.
    """

    label: str
    interval: Interval
    is_alarmed: bool
    rule: LabelRule | None


@dataclass(frozen=True)
class GateView:
    """One gate, with one of its rings in full."""

    known: KnownGate
    chart: RiskChart
    sliders: tuple[Slider, ...]
    chosen: Figures
    chosen_left: float
    now: Figures
    audit_share: float
    rings: tuple[RingRow, ...]
    ring: RingRow
    steps: tuple[StepRow, ...]
    labels: tuple[LabelRow, ...]
    unnamed_labels: int
    progress: Progress | None
    policies: tuple[IssuedPolicy, ...]
    alarms: tuple[GateAlarm, ...]


@dataclass(frozen=True)
class RiskView:
    """All that the page shows. `empty`: why no gate is shown, "" where one is."""

    gates: tuple[KnownGate, ...]
    shown: GateView | None
    empty: str
    unknown_digests: tuple[str, ...]
    now_s: int


def risk_view(reading: RiskReading | None, ring: str, chosen: Mapping[Risk, float], *, now_s: int) -> RiskView:
    """`ring` and `chosen` are what the viewer asked for; where there is no such ring, the first one is shown."""
    if reading is None:
        return RiskView((), None, "not_ready", (), now_s)
    known = {gate.digest for gate in reading.gates}
    unknown = tuple(sorted(reading.reported_digests - known))
    if reading.shown is None:
        none_known = "gateless" if reading.has_gateless and not unknown else "no_gates"
        empty = "unknown_gate" if reading.gates else none_known
        return RiskView(reading.gates, None, empty, unknown, now_s)
    return RiskView(reading.gates, _gate_view(reading.shown, ring, chosen), "", unknown, now_s)


def _gate_view(reading: GateReading, ring: str, chosen: Mapping[Risk, float]) -> GateView:
    gate = reading.known.gate
    rows = tuple(_ring_row(reading, each) for each in reading.rings)
    row = next(each for each in rows if each.ring == reading.ring_shown(ring))
    share = _audit_share(row)
    sliders = sliders_of(gate, row.in_force, chosen, share)
    labels = _label_rows(reading, row.ring)
    chart = risk_chart(gate, _measured(rows))
    chosen_figures = figures_at(gate, strictest(sliders), share)
    return GateView(
        known=reading.known,
        chart=chart,
        sliders=sliders,
        chosen=chosen_figures,
        chosen_left=chart.scale.left(chosen_figures.offload),
        now=figures_at(gate, row.threshold, share),
        audit_share=share,
        rings=rows,
        ring=row,
        steps=_step_rows(reading, row),
        labels=tuple(labels[:_MOST_LABELS]),
        unnamed_labels=max(0, len(labels) - _MOST_LABELS),
        progress=progress_of(row.policy, reading.users, reading.laggards) if row.policy else None,
        policies=tuple(each for each in reading.policies if each.ring == row.ring)[:_MOST_POLICIES],
        alarms=reading.alarms,
    )


def _ring_row(reading: GateReading, ring: str) -> RingRow:
    users = [each for each in reading.users if each.ring == ring and each.report.digest == reading.known.digest]
    present = [each for each in users if each.is_present]
    obeyed: Counter[tuple[float | None, tuple[tuple[str, float], ...]]] = Counter()
    for each in present or users:
        obeyed[each.report.threshold, tuple(sorted(each.report.in_force.items()))] += each.devices
    gate = reading.known.gate
    threshold, in_force = gate.threshold(), dict(gate.in_force)
    if obeyed:
        threshold, reported = obeyed.most_common(1)[0][0]
        in_force = alphas_of(dict(reported)) or in_force
    counts = reading.counts.get(ring, RingCounts())
    disagreement = _watch(reading, ring, WatchKind.DISAGREEMENT)
    return RingRow(
        ring=ring,
        online=sum(each.devices for each in present),
        devices=sum(each.devices for each in users),
        threshold=threshold,
        in_force=in_force,
        is_mixed=len(obeyed) > 1,
        policy=reading.policy_of(ring),
        counts=counts,
        offload=counts.wanted / counts.accepted if counts.accepted else None,
        disagreement=_interval(disagreement),
        error=_interval(_watch(reading, ring, WatchKind.ERROR)),
        drift=_watch(reading, ring, WatchKind.DRIFT),
        state=disagreement.state if disagreement else WatchState.UNWATCHED,
        open_alarms=sum(1 for each in reading.alarms if each.gate.ring == ring and each.acknowledged_s is None),
        expected_offload=figures_at(gate, threshold, 0.0).offload,
    )


def _interval(watch: GateWatch | None) -> Interval | None:
    """Of the step in force."""
    if watch is None or watch.state is WatchState.UNWATCHED:
        return None
    return Interval(watch.judged, watch.wrong, watch.lower, watch.upper, watch.alpha)


def _watch(reading: GateReading, ring: str, kind: WatchKind) -> GateWatch | None:
    return next((each for each in reading.watches if each.key.gate.ring == ring and each.key.kind is kind), None)


def _audit_share(row: RingRow) -> float:
    """As the ring's policy asks, else as measured; 0 where neither is known."""
    if row.policy is not None and row.policy.policy.audit_share is not None:
        return row.policy.policy.audit_share
    return min(1.0, row.counts.audited / row.counts.edge) if row.counts.edge else 0.0


def _measured(rows: Iterable[RingRow]) -> list[Measured]:
    found = []
    for row in rows:
        interval = row.disagreement
        if row.offload is None or interval is None or interval.risk is None:
            continue
        words = (
            f"ring {row.ring}: {percent(row.offload)} offloaded, {count(interval.wrong)} of {count(interval.judged)} "
            f"audits disagree: {percent(interval.lower)} to {percent(interval.upper)}"
        )
        found.append(Measured(row.ring, words, row.offload, interval.risk, interval.lower, interval.upper))
    return found


def _step_rows(reading: GateReading, row: RingRow) -> tuple[StepRow, ...]:
    watch = _watch(reading, row.ring, WatchKind.DISAGREEMENT)
    return tuple(_step_row(reading.known.gate, step, watch) for step in watch.steps) if watch else ()


def _step_row(gate: Gate, step: StepFigures, watch: GateWatch) -> StepRow:
    interval = Interval(step.judged, step.wrong, step.lower, step.upper, watch.alpha)
    return StepRow(step.threshold, _promises(gate, step.threshold), step.threshold == watch.threshold, interval)


def _promises(gate: Gate, threshold: float) -> str:
    told = []
    for certificate in gate.certificates:
        alphas = [step.alpha for step in certificate.steps if step.threshold == threshold]
        if alphas:
            told.append(f"{RISK_NAMES[certificate.risk].lower()} {percent(min(alphas))}")
    return ", ".join(told)


def _label_rows(reading: GateReading, ring: str) -> list[LabelRow]:
    """Critical labels first, then the worst audited."""
    rules = {rule.label: rule for rule in reading.known.gate.label_rules}
    watch = _watch(reading, ring, WatchKind.DISAGREEMENT)
    seen = watch.labels if watch else {}
    by_labels = _watch(reading, ring, WatchKind.ERROR)
    told = by_labels.labels if by_labels else {}
    alarmed = {label for figures in (seen, told) for label, each in figures.items() if each.alarmed}
    rows = [_label_row(label, seen.get(label), label in alarmed, rules.get(label)) for label in {**rules, **seen}]
    return sorted(
        rows, key=lambda row: (row.rule is None, -(row.interval.risk or 0.0), -row.interval.judged, row.label)
    )


def _label_row(label: str, seen: LabelFigures | None, is_alarmed: bool, rule: LabelRule | None) -> LabelRow:
    if seen is None:
        return LabelRow(label, Interval(0, 0, 0.0, 1.0, None), is_alarmed, rule)
    return LabelRow(label, Interval(seen.judged, seen.wrong, seen.lower, seen.upper, seen.alpha), is_alarmed, rule)
