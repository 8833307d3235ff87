"""The rollout service's figures for Prometheus, read from the store and the statistics at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cloud_service.rollout.inbox import InboxStatistics
from cloud_service.rollout.records import RolloutCounts, RolloutState
from shared.errors import StorageError
from shared.mqtt import BrokerStatistics


class RolloutCollector(Collector):
    """Implements `prometheus_client`'s collector."""

    def __init__(
        self,
        counts: Callable[[], RolloutCounts],
        inbox: Callable[[], InboxStatistics],
        broker: Callable[[], BrokerStatistics],
    ) -> None:
        self._counts = counts
        self._inbox = inbox
        self._broker = broker

    def collect(self) -> Iterator[Metric]:
        """All figures of this moment; those of a store that cannot be read are left out."""
        inbox, broker = self._inbox(), self._broker()
        yield CounterMetricFamily("tandem_rollout_reports", "Devices' reports heard", inbox.received)
        dropped = CounterMetricFamily("tandem_rollout_reports_dropped", "Reports not used", labels=["reason"])
        for reason, count in inbox.dropped.items():
            dropped.add_metric([reason], count)
        yield dropped
        yield GaugeMetricFamily("tandem_rollout_reports_waiting", "Heard and not yet written", inbox.waiting)
        yield GaugeMetricFamily("tandem_rollout_broker_connected", "1 when connected", float(broker.connected))
        yield CounterMetricFamily("tandem_rollout_broker_connections", "Connections made", broker.connections)
        try:
            counts = self._counts()
        except StorageError:
            return
        yield from _of_store(counts)


def _of_store(counts: RolloutCounts) -> Iterator[Metric]:
    rollouts = GaugeMetricFamily("tandem_rollouts", "Rollouts by state", labels=["model", "state"])
    for model in sorted({model for model, _ in counts.rollouts}):
        for state in RolloutState:
            rollouts.add_metric([model, state.value], counts.rollouts.get((model, state), 0))
    yield rollouts
    devices = GaugeMetricFamily("tandem_rollout_devices", "Devices by their update's phase", labels=["model", "phase"])
    for (model, phase), count in counts.devices.items():
        devices.add_metric([model, phase], count)
    yield devices
    yield GaugeMetricFamily("tandem_rollout_orders_unsigned", "Orders not signed yet", counts.unsigned_orders)
