"""What a page asks of the store, and what it is told. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from cloud_service.fleet.book import ModelState
from cloud_service.fleet.presence import DeviceState
from cloud_service.fleet.status import FleetStatus
from cloud_service.fleet.tally import Tally
from cloud_service.watch.records import GateAlarm, GateWatch
from shared.gate import Gate


@dataclass(frozen=True)
class Question:
    """What the page wants to know. Times in seconds since 1970-01-01 UTC.

    `chart_*`: buckets for the charts; `figures_*`: buckets whose sum is shown; `recent_since_s`: begin of "now";
    `seen_since_s`: a device heard since then is not silent.
    """

    chart_width_s: int
    chart_since_s: int
    figures_width_s: int
    figures_since_s: int
    recent_since_s: int
    seen_since_s: int
    until_s: int
    device_limit: int


@dataclass(frozen=True)
class DeviceReading:
    """One device, the models that its present boot runs, newest word first, and its counts by model."""

    state: DeviceState
    models: tuple[ModelState, ...]
    tallies: dict[str, Tally]


@dataclass(frozen=True)
class DeviceCounts:
    """Devices by presence. `silent`: said to be online, not heard for long."""

    online: int
    silent: int
    offline: int


@dataclass(frozen=True)
class GateGlance:
    """The newest watch for disagreement over one model version in one ring, and its requests in the figures' stretch.

    `gate` is None where the cloud does not know the document.
    """

    watch: GateWatch
    gate: Gate | None
    wanted: int = 0
    accepted: int = 0


@dataclass(frozen=True)
class FleetReading:
    """The answer. `devices` are at most the limit, by id; `in_flight` and `calls_in_flight` are of online devices.

    `chart`: counters alone, by the begin of each bucket. `alarms` are those that nobody has acknowledged, newest first.
    """

    status: FleetStatus | None
    device_counts: DeviceCounts
    devices: tuple[DeviceReading, ...]
    chart: dict[int, Tally]
    figures: Tally
    recent: Tally
    all_time: Tally
    in_flight: int
    calls_in_flight: int
    glances: tuple[GateGlance, ...] = ()
    alarms: tuple[GateAlarm, ...] = ()
