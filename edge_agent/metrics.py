"""The ledger in Prometheus' words, read when it is scraped, so that nothing is counted in two places."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from edge_agent.accounting import LedgerSnapshot
from edge_agent.escalation.breaker import BreakerState
from edge_agent.gate_metrics import gate_metrics, judgement_metrics
from edge_agent.lanes import Lanes
from shared.histogram import BOUNDS_MS
from shared.types import LatencyHistogram

CONTENT_TYPE = CONTENT_TYPE_LATEST
_ENDINGS = ("edge", "cloud", "degraded", "failed", "rejected")
_CALL_RESULTS = (("served", "served"), ("failed", "call_failed"), ("timed_out", "timed_out"))
_TOTALS = (
    ("received", "Requests received."),
    ("accepted", "Requests accepted."),
    ("wanted", "Accepted requests that the gate wanted to escalate."),
)


@dataclass(frozen=True)
class StateHealth:
    """Whether the device's state cannot be saved now, and how many true labels wait for the cloud."""

    is_failing: bool
    waiting_labels: int


class MetricsPage(Collector):
    """Every model's ledger and gate, the links and the state, as one page. Nothing is told label by label."""

    def __init__(
        self,
        lanes: Lanes,
        breaker_state: Callable[[], BreakerState | None],
        broker_connected: Callable[[], bool | None],
        state_health: Callable[[], StateHealth] | None = None,
    ) -> None:
        """The callables give None where there is no cloud, or no broker."""
        self._state_health = state_health
        self._lanes = lanes
        self._breaker_state = breaker_state
        self._broker_connected = broker_connected
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def render(self) -> bytes:
        """The page, in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """All metrics of this moment."""
        snapshots = self._lanes.totals()
        yield from _requests(snapshots)
        yield from _escalations(snapshots)
        yield _durations(snapshots)
        yield from judgement_metrics(snapshots)
        yield self._models()
        yield CounterMetricFamily(
            "tandem_model_swaps", "Times that a model took another's place under traffic.", self._lanes.exchanges
        )
        yield from gate_metrics(self._lanes)
        yield from self._links()
        yield from self._state()

    def _models(self) -> Metric:
        info = InfoMetricFamily("tandem_model", "The models that this device runs.")
        for lane in self._lanes.answering():
            identity = lane.model.identity
            words = {"model": identity.name, "version": identity.version, "digest": identity.digest}
            info.add_metric([], words | {"variant": lane.model.variant})
        return info

    def _links(self) -> Iterator[Metric]:
        state = self._breaker_state()
        if state is not None:
            family = GaugeMetricFamily("tandem_circuit_breaker_state", "1 for the state it is in.", labels=["state"])
            for one in BreakerState:
                family.add_metric([one.value], float(one is state))
            yield family
        connected = self._broker_connected()
        if connected is not None:
            yield GaugeMetricFamily("tandem_broker_connected", "Whether the broker is connected.", float(connected))

    def _state(self) -> Iterator[Metric]:
        if self._state_health is not None:
            health = self._state_health()
            yield GaugeMetricFamily(
                "tandem_state_failing", "1 while the state cannot be saved.", float(health.is_failing)
            )
            yield GaugeMetricFamily(
                "tandem_true_labels_waiting", "True labels that wait for the cloud.", float(health.waiting_labels)
            )


def _requests(snapshots: Mapping[str, LedgerSnapshot]) -> Iterator[Metric]:
    endings = CounterMetricFamily("tandem_requests", "Requests by how they ended.", labels=["model", "outcome"])
    reasons = CounterMetricFamily("tandem_request_reasons", "Ended requests by why.", labels=["model", "reason"])
    in_flight = GaugeMetricFamily("tandem_requests_in_flight", "Requests being answered.", labels=["model"])
    ratio = GaugeMetricFamily("tandem_offload_ratio", "Wanted / accepted since the start.", labels=["model"])
    for name, snapshot in snapshots.items():
        counters = snapshot.counters
        for ending in _ENDINGS:
            endings.add_metric([name, ending], getattr(counters, ending))
        for reason, count in snapshot.reasons.items():
            reasons.add_metric([name, reason], count)
        in_flight.add_metric([name], counters.in_flight)
        ratio.add_metric([name], counters.wanted / counters.accepted if counters.accepted else 0.0)
    yield from (endings, reasons, in_flight, ratio)
    for total, text in _TOTALS:
        family = CounterMetricFamily(f"tandem_requests_{total}", text, labels=["model"])
        for name, snapshot in snapshots.items():
            family.add_metric([name], getattr(snapshot.counters, total))
        yield family


def _escalations(snapshots: Mapping[str, LedgerSnapshot]) -> Iterator[Metric]:
    calls = CounterMetricFamily("tandem_escalations", "Calls to the cloud by result.", labels=["model", "result"])
    attempted = CounterMetricFamily("tandem_escalations_attempted", "Calls to the cloud begun.", labels=["model"])
    in_flight = GaugeMetricFamily("tandem_escalations_in_flight", "Calls to the cloud under way.", labels=["model"])
    for name, snapshot in snapshots.items():
        for result, counter in _CALL_RESULTS:
            calls.add_metric([name, result], getattr(snapshot.counters, counter))
        attempted.add_metric([name], snapshot.counters.attempted)
        in_flight.add_metric([name], snapshot.counters.calls_in_flight)
    yield from (calls, attempted, in_flight)


def _durations(snapshots: Mapping[str, LedgerSnapshot]) -> Metric:
    family = HistogramMetricFamily(
        "tandem_request_duration_seconds", "From arrival to answer.", labels=["model", "outcome"]
    )
    for name, snapshot in snapshots.items():
        for outcome, histogram in snapshot.latency_by_outcome.items():
            family.add_metric([name, outcome], _cumulative(histogram), histogram.sum_ms / 1e3)
    return family


def _cumulative(histogram: LatencyHistogram) -> list[tuple[str, float]]:
    total, buckets = 0, []
    bounds = [f"{bound_ms / 1e3:g}" for bound_ms in BOUNDS_MS] + ["+Inf"]
    for bound, count in zip(bounds, histogram.counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets
