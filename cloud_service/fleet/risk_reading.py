"""What the page of risks is told by the store. Pure. Times in seconds since 1970-01-01 UTC."""

from __future__ import annotations

from dataclasses import dataclass, field

from cloud_service.watch.records import GateAlarm, GateWatch, IssuedPolicy, KnownGate
from shared.types import DEFAULT_RING, GateReport

MOST_NAMED = 50
"""How many laggards are told of by name."""


@dataclass(frozen=True)
class GateUsers:
    """How many devices of a ring say the same of their gate for a model. `is_present`: online, and heard of late.

    `report` is without the words of a refusal.
    """

    ring: str
    is_present: bool
    report: GateReport
    devices: int


@dataclass(frozen=True)
class Laggard:
    """A device that does not obey its ring's newest policy. `last_seen_s` None: not heard since the service started."""

    device_id: str
    is_online: bool
    is_present: bool
    last_seen_s: int | None
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
    """One gate in the field. `users` run its model, some with another gate; policies and alarms are newest first.

    `laggards`: some of those in the ring that was asked for, the ones who refused first.
    """

    known: KnownGate
    users: tuple[GateUsers, ...] = ()
    watches: tuple[GateWatch, ...] = ()
    counts: dict[str, RingCounts] = field(default_factory=dict)
    policies: tuple[IssuedPolicy, ...] = ()
    alarms: tuple[GateAlarm, ...] = ()
    laggards: tuple[Laggard, ...] = ()

    @property
    def rings(self) -> tuple[str, ...]:
        """Every ring that anything is known of, by name; the usual one where nothing is."""
        names = {each.ring for each in self.users} | {each.key.gate.ring for each in self.watches}
        names |= {each.ring for each in self.policies} | set(self.counts)
        return tuple(sorted(names)) or (DEFAULT_RING,)

    def ring_shown(self, asked: str) -> str:
        """The ring `asked` for; where there is no such ring, the first one."""
        return asked if asked in self.rings else self.rings[0]

    def policy_of(self, ring: str) -> IssuedPolicy | None:
        """The ring's newest."""
        return next((each for each in self.policies if each.ring == ring), None)


@dataclass(frozen=True)
class RiskReading:
    """All gates known, by model and version; the one asked for in full. `reported_digests`: gates that devices name."""

    gates: tuple[KnownGate, ...]
    shown: GateReading | None
    reported_digests: frozenset[str]
    has_gateless: bool
