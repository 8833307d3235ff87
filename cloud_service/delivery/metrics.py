"""The publisher's figures for Prometheus, read from the statistics at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cloud_service.delivery.publisher import DeliveryStatistics
from shared.mqtt import BrokerStatistics


class DeliveryCollector(Collector):
    """Implements `prometheus_client`'s collector."""

    def __init__(self, delivery: Callable[[], DeliveryStatistics], broker: Callable[[], BrokerStatistics]) -> None:
        self._delivery = delivery
        self._broker = broker

    def collect(self) -> Iterator[Metric]:
        """All figures of this moment."""
        told, broker = self._delivery(), self._broker()
        requests = CounterMetricFamily("tandem_delivery_requests", "Devices' requests for blocks", labels=["outcome"])
        for outcome, count in (
            ("taken", told.requests - told.refused),
            ("refused", told.refused),
            ("malformed", told.malformed),
        ):
            requests.add_metric([outcome], count)
        yield requests
        yield CounterMetricFamily("tandem_delivery_blocks_sent", "Blocks sent over MQTT", told.blocks_sent)
        yield CounterMetricFamily("tandem_delivery_sent_bytes", "Bytes of files sent over MQTT", told.bytes_sent)
        yield CounterMetricFamily("tandem_delivery_missing", "Answers that there is no such file", told.missing)
        yield GaugeMetricFamily("tandem_delivery_ranges_waiting", "Ranges asked for and not sent", told.ranges_waiting)
        yield GaugeMetricFamily("tandem_delivery_broker_connected", "1 when connected", float(broker.connected))
        yield CounterMetricFamily("tandem_delivery_broker_connections", "Connections made", broker.connections)
