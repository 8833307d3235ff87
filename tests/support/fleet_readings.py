"""What a store might say to the operator's page."""

from __future__ import annotations

from cloud_service.fleet.book import ModelState
from cloud_service.fleet.deltas import series_of, snapshot_of
from cloud_service.fleet.presence import DeviceState
from cloud_service.fleet.reading import DeviceCounts, DeviceReading, FleetReading, Question
from cloud_service.fleet.status import FleetStatus
from cloud_service.fleet.tally import Tally, total
from shared.errors import StorageError
from shared.types import Outcome
from tests.support.simulated_device import CountedModel

NOW_S = 1_800_000_000


def counted(device_id: str = "d1") -> CountedModel:
    """100 received: 2 rejected, 80 edge, 12 cloud, 4 degraded, 1 failed, 1 in flight."""
    model = CountedModel(device_id, "b1")
    model.reject(2)
    for outcome, requests, latency_ms in (
        (Outcome.EDGE, 80, 4.0),
        (Outcome.CLOUD, 12, 40.0),
        (Outcome.DEGRADED, 4, 80.0),
        (Outcome.FAILED, 1, 9.0),
    ):
        model.serve(outcome, requests, latency_ms=latency_ms)
    model.begin(1)
    return model


def tally_of(model: CountedModel) -> Tally:
    return snapshot_of(model.telemetry()).tally


def device_reading(
    model: CountedModel, *, is_online: bool = True, last_seen_s: int | None = NOW_S, agent_version: str = "1.0"
) -> DeviceReading:
    told = model.telemetry()
    series, snapshot = series_of(told), snapshot_of(told)
    state = ModelState(series, snapshot, told.model.digest, told.gate, told.cloud_link, NOW_S, told.ring)
    device = DeviceState(series.device_id, series.boot_id, is_online, agent_version, NOW_S - 999, last_seen_s)
    return DeviceReading(device, (state,), {series.model: snapshot.tally})


def fleet_reading(*devices: DeviceReading, status: FleetStatus | None = None, in_flight: int = 0) -> FleetReading:
    """A fleet in which everything was counted within the last seconds."""
    every = total(tally for device in devices for tally in device.tallies.values())
    online = sum(device.state.is_online for device in devices)
    return FleetReading(
        status=status or FleetStatus(NOW_S - 60, NOW_S, "localhost:1883", True),
        device_counts=DeviceCounts(online, 0, len(devices) - online),
        devices=devices,
        chart={NOW_S - NOW_S % 60: every} if devices else {},
        figures=every,
        recent=every,
        all_time=every,
        in_flight=in_flight,
        calls_in_flight=0,
    )


class FixedReader:
    """Implements `cloud_service.dashboard.feed.Reader`; says what it was given and counts how often it is asked."""

    def __init__(self, reading: FleetReading | None) -> None:
        self.reading = reading
        self.is_broken = False
        self.reads = 0

    def read(self, question: Question) -> FleetReading | None:
        self.reads += 1
        if self.is_broken:
            raise StorageError("ordered by the test")
        return self.reading
