"""What the Devices pages ask of the store, and what they are told. Pure. Times in seconds since 1970-01-01 UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cloud_service.dashboard.ranges import Axis
from cloud_service.fleet.presence import DeviceState
from cloud_service.fleet.reading import DeviceCounts
from cloud_service.fleet.tally import Tally
from shared.types import GateReport


@dataclass(frozen=True)
class DeviceModel:
    """A model on a device in one of its boots. Counts since it began there; `p99_ms` over all outcomes."""

    model: str
    model_version: str
    variant: str
    model_digest: str
    boot_id: str
    ring: str
    cloud_link: str
    gate: GateReport
    heard_s: int
    accepted: int
    wanted: int
    p99_ms: float | None


@dataclass(frozen=True)
class ListedDevice:
    """One model on one device; a device without a model is listed once, with None."""

    device: DeviceState
    running: DeviceModel | None


@dataclass(frozen=True)
class DeviceChoices:
    """What can be filtered by."""

    rings: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()


@dataclass(frozen=True)
class DevicesReading:
    """One page of the list. `matches`: rows on all pages; `fleet`: all devices, whatever is searched for."""

    rows: tuple[ListedDevice, ...] = ()
    matches: int = 0
    fleet: DeviceCounts = field(default_factory=lambda: DeviceCounts(0, 0, 0))
    choices: DeviceChoices = field(default_factory=DeviceChoices)


@dataclass(frozen=True)
class NotedPolicy:
    """A policy that was issued for the device's ring; `published_s` None: not sent yet."""

    policy_id: str
    model: str
    ring: str
    issued_by: str
    reason: str
    in_force: Mapping[str, float]
    escalates_all: bool
    issued_s: int
    published_s: int | None


@dataclass(frozen=True)
class NotedAlarm:
    """An alarm in the device's ring; `acknowledged_by` "": nobody has."""

    alarm_id: str
    model: str
    ring: str
    kind: str
    text: str
    raised_s: int
    acknowledged_by: str


@dataclass(frozen=True)
class DeviceHistory:
    """One device: the models of all its boots that are remembered, newest word first, and its counts over time."""

    device: DeviceState
    models: tuple[DeviceModel, ...]
    axis: Axis
    tallies: Mapping[int, Tally]
    policies: tuple[NotedPolicy, ...]
    alarms: tuple[NotedAlarm, ...]
