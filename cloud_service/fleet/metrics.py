"""The fleet service's figures for Prometheus, read from the statistics at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from cloud_service.fleet.ingest import IngestStatistics
from cloud_service.watch.records import AlarmKind, GateWatch, WatchKind, WatchState
from shared.mqtt import BrokerStatistics


class FleetCollector(Collector):
    """Implements `prometheus_client`'s collector."""

    def __init__(self, ingest: Callable[[], IngestStatistics], broker: Callable[[], BrokerStatistics]) -> None:
        self._ingest = ingest
        self._broker = broker

    def collect(self) -> Iterator[Metric]:
        """All figures of this moment."""
        ingest, broker = self._ingest(), self._broker()
        inbox = ingest.inbox
        yield _by("tandem_fleet_messages", "Messages heard", "kind", inbox.received)
        dropped = {**inbox.dropped, "backwards": ingest.refused}
        yield _by("tandem_fleet_messages_dropped", "Messages that were not used", "reason", dropped)
        yield CounterMetricFamily("tandem_fleet_messages_coalesced", "Overtaken before booking", inbox.coalesced)
        yield CounterMetricFamily("tandem_fleet_messages_outdated", "No newer than what is booked", ingest.outdated)
        yield GaugeMetricFamily("tandem_fleet_messages_waiting", "Heard and not yet booked", inbox.waiting)
        yield SummaryMetricFamily(
            "tandem_fleet_commit_seconds",
            "Wall time of commits, failed ones among them",
            ingest.commits + ingest.commit_failures,
            ingest.commit_seconds,
        )
        yield CounterMetricFamily("tandem_fleet_commit_failures", "Commits to try again", ingest.commit_failures)
        yield GaugeMetricFamily("tandem_fleet_lag_seconds", "Longest wait in the last commit", ingest.lag_s)
        yield GaugeMetricFamily("tandem_fleet_last_commit_time_seconds", "Unix time", ingest.last_commit_s)
        yield GaugeMetricFamily("tandem_fleet_broker_connected", "1 when connected", float(broker.connected))
        yield CounterMetricFamily("tandem_fleet_broker_connections", "Connections made", broker.connections)
        devices = GaugeMetricFamily("tandem_fleet_devices", "Devices by presence", labels=["presence"])
        devices.add_metric(["online"], ingest.devices_online)
        devices.add_metric(["offline"], ingest.devices_offline)
        yield devices
        yield _by("tandem_gate_alarms", "Alarms raised since the start", "kind", _NO_ALARMS | dict(ingest.alarms))
        yield from _watch_metrics(ingest.watches)


_NO_ALARMS = {kind.value: 0 for kind in AlarmKind}
"""So that the first alarm is an increase."""

_WATCH_LABELS = ("model", "version", "ring", "gate", "kind")
_FIGURES: dict[str, tuple[str, Callable[[GateWatch], float | None]]] = {
    "tandem_gate_judged": ("Kept answers judged since the gate in force began", lambda watch: watch.judged),
    "tandem_gate_wrong": ("Of these, wrong", lambda watch: watch.wrong),
    "tandem_gate_risk": ("Kept risk, estimated", lambda watch: watch.wrong / watch.judged if watch.judged else None),
    "tandem_gate_risk_lower": ("Kept risk, time-uniform lower bound", lambda watch: watch.lower),
    "tandem_gate_risk_upper": ("Kept risk, time-uniform upper bound", lambda watch: watch.upper),
    "tandem_gate_alpha": ("Kept risk that is promised", lambda watch: watch.alpha),
    "tandem_gate_threshold": ("Answers are kept from this score on", lambda watch: watch.threshold),
    "tandem_gate_cusum": ("Evidence that the risk rose", lambda watch: watch.cusum),
    "tandem_gate_cusum_limit": ("Where that raises an alarm", lambda watch: watch.cusum_limit),
}
_DRIFT_FIGURES: dict[str, tuple[str, Callable[[GateWatch], float | None]]] = {
    "tandem_gate_drift_requests": ("Requests whose scores were looked at", lambda watch: watch.judged),
    "tandem_gate_drift_share": ("Share of scores that lie elsewhere than in calibration", lambda watch: watch.lower),
    "tandem_gate_drift_evidence": ("Natural logarithm of the evidence of drift", lambda watch: watch.cusum),
    "tandem_gate_drift_limit": ("Where that raises a warning", lambda watch: watch.cusum_limit),
}


def _watch_metrics(watches: tuple[GateWatch, ...]) -> Iterator[Metric]:
    state = GaugeMetricFamily("tandem_gate_state", "1 for the state that holds", labels=[*_WATCH_LABELS, "state"])
    for watch in watches:
        for each in WatchState:
            state.add_metric([*_labels(watch), each.value], float(watch.state is each))
    yield state
    for figures, is_drift in ((_FIGURES, False), (_DRIFT_FIGURES, True)):
        shown = [watch for watch in watches if (watch.key.kind is WatchKind.DRIFT) is is_drift]
        for name, (text, value_of) in figures.items():
            family = GaugeMetricFamily(name, text, labels=_WATCH_LABELS)
            for watch in shown:
                value = value_of(watch)
                if value is not None:
                    family.add_metric(_labels(watch), value)
            yield family


def _labels(watch: GateWatch) -> list[str]:
    gate = watch.key.gate
    return [gate.model, gate.model_version, gate.ring, gate.gate_digest[:12], watch.key.kind.value]


def _by(name: str, text: str, label: str, values: dict[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family
