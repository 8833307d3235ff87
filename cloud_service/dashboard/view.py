"""From what the store says to what the page shows. Pure.

Every sum shown obeys received = accepted + rejected, accepted = edge + cloud + degraded + failed + in flight,
attempted = served + failed + timed out + in flight, and, of audits, chosen = agreed + disagreed + failed + in flight.
Within a stretch of time "in flight" is the change over it.
"""

from __future__ import annotations

from dataclasses import dataclass

from cloud_service.dashboard.chart import STACK, Chart, offload_chart, outcome_chart, ratio_of
from cloud_service.dashboard.device_view import DeviceRow, device_rows
from cloud_service.dashboard.notices import Notice, notices_of
from cloud_service.dashboard.ranges import Range, axis_of
from cloud_service.dashboard.risk_choices import figures_at
from cloud_service.fleet.reading import DeviceCounts, FleetReading, GateGlance, Question
from cloud_service.fleet.tally import Tally, total
from cloud_service.watch.records import GateAlarm
from shared.histogram import quantile_ms
from shared.types import AuditCounts, RequestCounters

_REQUEST_ROWS = (
    ("received", "Received", ""),
    ("rejected", "Rejected", "received"),
    ("accepted", "Accepted", "received"),
    ("edge", "Edge", "accepted"),
    ("cloud", "Cloud", "accepted"),
    ("degraded", "Degraded", "accepted"),
    ("failed", "Failed", "accepted"),
    ("in_flight", "In flight", ""),
)
_CALL_ROWS = (
    ("attempted", "Attempted", ""),
    ("served", "Served", "attempted"),
    ("call_failed", "Failed", "attempted"),
    ("timed_out", "Timed out", "attempted"),
    ("calls_in_flight", "In flight", ""),
)
_AUDIT_ROWS = (
    ("chosen", "Chosen", ""),
    ("agreed", "Agreed", "chosen"),
    ("disagreed", "Disagreed", "chosen"),
    ("failed", "Failed", "chosen"),
    ("in_flight", "In flight", ""),
)
_IN_FLIGHT = frozenset({"in_flight", "calls_in_flight"})


@dataclass(frozen=True)
class Ratio:
    """`wanted` of `accepted`; `ratio` is None where nothing was accepted."""

    wanted: int
    accepted: int
    ratio: float | None


@dataclass(frozen=True)
class CountRow:
    """One counter in the shown stretch and of all time; `share` is of the row named in `share_of`.

    `unknown`: of `all_time`, the part in flight on devices that have gone, whose end nobody knows.
    """

    key: str
    label: str
    shown: int
    all_time: int
    share: float | None
    share_of: str
    is_change: bool = False
    unknown: int = 0


@dataclass(frozen=True)
class LatencyRow:
    """Quantiles in ms; None without a value."""

    key: str
    label: str
    requests: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True)
class ReasonRow:
    """How many requests ended for one reason."""

    key: str
    requests: int


@dataclass(frozen=True)
class Saved:
    """The share of cloud compute that was not needed, in requests; None where nothing was accepted."""

    wanted: int
    audits: int
    accepted: int

    @property
    def ratio(self) -> float | None:
        """Against all requests in the cloud."""
        return 1 - (self.wanted + self.audits) / self.accepted if self.accepted > 0 else None


@dataclass(frozen=True)
class RiskRow:
    """Kept disagreement of one model version in one ring, with its time-uniform interval, and its offload.

    `alpha`: what is promised, None: nothing. `expected_offload` is the certificate's for the threshold in force.
    """

    model: str
    model_version: str
    ring: str
    judged: int
    wrong: int
    lower: float
    upper: float
    alpha: float | None
    state: str
    offload: Ratio
    expected_offload: float | None

    @property
    def risk(self) -> float | None:
        """The estimate; None where nothing was audited."""
        return self.wrong / self.judged if self.judged else None


@dataclass(frozen=True)
class Overview:
    """Everything on the page; `devices` are at most `device_limit`. Times in seconds since 1970-01-01 UTC."""

    shown: Range
    now_s: int
    since_s: int
    written_s: int | None
    notices: tuple[Notice, ...]
    offload_now: Ratio
    offload_shown: Ratio
    offload_all_time: Ratio
    requests: tuple[CountRow, ...]
    stack: tuple[CountRow, ...]
    calls: tuple[CountRow, ...]
    audits: tuple[CountRow, ...]
    saved: Saved
    risks: tuple[RiskRow, ...]
    alarms: tuple[GateAlarm, ...]
    latency: tuple[LatencyRow, ...]
    reasons: tuple[ReasonRow, ...]
    device_counts: DeviceCounts
    devices: tuple[DeviceRow, ...]
    device_limit: int
    offload_chart: Chart
    outcome_chart: Chart

    @property
    def device_count(self) -> int:
        """All devices, shown or not."""
        return self.device_counts.online + self.device_counts.silent + self.device_counts.offline


def overview(shown: Range, asked: Question, reading: FleetReading | None, now_s: int, stale_after_s: int) -> Overview:
    """The page at `now_s`. `reading` answers `asked`; None while the store is not set up."""
    notices = notices_of(reading, now_s, stale_after_s=stale_after_s)
    told = reading or _NO_READING
    shown_counters, all_counters = told.figures.counters, told.all_time.counters
    requests = _count_rows(_REQUEST_ROWS, shown_counters, all_counters, told.in_flight)
    return Overview(
        shown=shown,
        now_s=now_s,
        since_s=asked.figures_since_s,
        written_s=told.status.written_s if told.status else None,
        notices=notices,
        offload_now=_ratio(told.recent),
        offload_shown=_ratio(told.figures),
        offload_all_time=_ratio(told.all_time),
        requests=requests,
        stack=tuple(row for outcome in STACK for row in requests if row.key == outcome.value),
        calls=_count_rows(_CALL_ROWS, shown_counters, all_counters, told.calls_in_flight),
        audits=_audit_rows(told.figures.audits, told.all_time.audits),
        saved=Saved(shown_counters.wanted, told.figures.audits.chosen, shown_counters.accepted),
        risks=tuple(_risk_row(glance) for glance in told.glances),
        alarms=told.alarms,
        latency=_latency_rows(told.figures),
        reasons=_reason_rows(told.figures),
        device_counts=told.device_counts,
        devices=device_rows(told.devices, asked.seen_since_s),
        device_limit=asked.device_limit,
        offload_chart=offload_chart(axis_of(shown, asked.chart_since_s), told.chart),
        outcome_chart=outcome_chart(axis_of(shown, asked.chart_since_s), told.chart),
    )


_NO_READING = FleetReading(None, DeviceCounts(0, 0, 0), (), {}, Tally(), Tally(), Tally(), 0, 0)


def _ratio(tally: Tally) -> Ratio:
    return Ratio(tally.counters.wanted, tally.counters.accepted, ratio_of(tally))


def _count_rows(
    names: tuple[tuple[str, str, str], ...], shown: RequestCounters, all_time: RequestCounters, live: int
) -> tuple[CountRow, ...]:
    return tuple(_count_row(key, label, whole, shown, all_time, live) for key, label, whole in names)


def _count_row(
    key: str, label: str, whole: str, shown: RequestCounters, all_time: RequestCounters, live: int
) -> CountRow:
    value, everything = int(getattr(shown, key)), int(getattr(all_time, key))
    denominator = int(getattr(shown, whole)) if whole else 0
    return CountRow(
        key,
        label,
        value,
        everything,
        value / denominator if denominator > 0 else None,
        whole,
        is_change=key in _IN_FLIGHT,
        unknown=max(0, everything - live) if key in _IN_FLIGHT else 0,
    )


def _audit_rows(shown: AuditCounts, all_time: AuditCounts) -> tuple[CountRow, ...]:
    rows = []
    for key, label, whole in _AUDIT_ROWS:
        value, everything = int(getattr(shown, key)), int(getattr(all_time, key))
        share = value / shown.chosen if whole and shown.chosen > 0 else None
        rows.append(CountRow(f"audits_{key}", label, value, everything, share, whole, is_change=key in _IN_FLIGHT))
    return tuple(rows)


def _risk_row(glance: GateGlance) -> RiskRow:
    watch, named = glance.watch, glance.watch.key.gate
    offload = Ratio(glance.wanted, glance.accepted, glance.wanted / glance.accepted if glance.accepted > 0 else None)
    return RiskRow(
        model=named.model,
        model_version=named.model_version,
        ring=named.ring,
        judged=watch.judged,
        wrong=watch.wrong,
        lower=watch.lower,
        upper=watch.upper,
        alpha=watch.alpha,
        state=watch.state.value,
        offload=offload,
        expected_offload=figures_at(glance.gate, watch.threshold, 0.0).offload if glance.gate else None,
    )


def _latency_rows(tally: Tally) -> tuple[LatencyRow, ...]:
    rows = []
    for key, label, whole in _REQUEST_ROWS:
        if whole == "accepted":
            histogram = tally.latency.get(key)
            rows.append(_latency_row(key, label, histogram.dense() if histogram else []))
    everything = total(Tally(latency={"all": histogram}) for histogram in tally.latency.values()).latency.get("all")
    return (*rows, _latency_row("all", "All", everything.dense() if everything else []))


def _latency_row(key: str, label: str, counts: list[int]) -> LatencyRow:
    p50_ms, p95_ms, p99_ms = (quantile_ms(counts, quantile) for quantile in (0.5, 0.95, 0.99))
    return LatencyRow(key, label, sum(counts), p50_ms, p95_ms, p99_ms)


def _reason_rows(tally: Tally) -> tuple[ReasonRow, ...]:
    ordered = sorted(tally.reasons.items(), key=lambda item: (-item[1], item[0]))
    return tuple(ReasonRow(reason, requests) for reason, requests in ordered)
