"""What the page of risks is told by the store. Pure. Times in seconds since 1970-01-01 UTC."""

from __future__ import annotations

from dataclasses import dataclass, field

from cloud_service.watch.records import GateAlarm, GateWatch, IssuedPolicy, KnownGate
from shared.types import GateReport


@dataclass(frozen=True)
class GateUser:
    """A device's newest word on its gate for a model. `last_seen_s` None: not heard since the service started."""

    device_id: str
    ring: str
    is_online: bool
    last_seen_s: int | None
    model_version: str
    report: GateReport


@dataclass(frozen=True)
class RingCounts:
    """A ring's requests in the stretch shown as today: answered on the device, and of these audited."""

    accepted: int = 0
    wanted: int = 0
    edge: int = 0
    audited: int = 0


@dataclass(frozen=True)
class GateReading:
    """One gate in the field. `users` run its model, some with another gate; policies and alarms are newest first."""

    known: KnownGate
    users: tuple[GateUser, ...] = ()
    watches: tuple[GateWatch, ...] = ()
    counts: dict[str, RingCounts] = field(default_factory=dict)
    policies: tuple[IssuedPolicy, ...] = ()
    alarms: tuple[GateAlarm, ...] = ()


@dataclass(frozen=True)
class RiskReading:
    """All gates known, by model and version; the one asked for in full. `reported_digests`: gates that devices name."""

    gates: tuple[KnownGate, ...]
    shown: GateReading | None
    reported_digests: frozenset[str]
    has_gateless: bool
