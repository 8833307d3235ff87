from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from cloud_service.delivery.metrics import DeliveryCollector
from cloud_service.delivery.publisher import DeliveryStatistics
from shared.mqtt import BrokerStatistics


def test_prometheus_is_told_what_was_sent_and_what_waits() -> None:
    registry = CollectorRegistry()
    told = DeliveryStatistics(requests=10, malformed=2, refused=3, blocks_sent=40, bytes_sent=5000, ranges_waiting=6)
    registry.register(DeliveryCollector(lambda: told, lambda: BrokerStatistics(True, 2, 0, 0, "")))
    page = generate_latest(registry).decode()
    for line in (
        'tandem_delivery_requests_total{outcome="taken"} 7.0',
        'tandem_delivery_requests_total{outcome="refused"} 3.0',
        'tandem_delivery_requests_total{outcome="malformed"} 2.0',
        "tandem_delivery_sent_bytes_total 5000.0",
        "tandem_delivery_ranges_waiting 6.0",
        "tandem_delivery_broker_connections_total 2.0",
    ):
        assert line in page.splitlines()
