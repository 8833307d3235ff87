"""The fleet service's figures for Prometheus, read from the statistics at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from cloud_service.fleet.ingest import IngestStatistics
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


def _by(name: str, text: str, label: str, values: dict[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family
