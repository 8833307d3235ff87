"""The book: what has been committed, and what a batch of messages changes. Pure.

`plan` says what to write and changes nothing; `applied` takes the plan over once the store has committed it. So the
book always equals the store, also when a commit fails.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cloud_service.fleet.buckets import (
    DAY_S,
    DEVICE_WIDTHS_S,
    FLEET_WIDTHS_S,
    WHOLE_FLEET,
    Bucket,
    CountKey,
    Share,
    buckets_at,
)
from cloud_service.fleet.deltas import Series, Snapshot, Verdicts, further_verdicts, increase, snapshot_of
from cloud_service.fleet.inbox import Batch, HeardTelemetry
from cloud_service.fleet.presence import DeviceState, after_presence, after_telemetry
from cloud_service.fleet.tally import NOTHING, Tally, TallySum
from cloud_service.watch.evidence import Evidence
from cloud_service.watch.records import GateAlarm, GateKey, GateWatch, IssuedPolicy, WatchKey
from shared.codec import decode_sound_telemetry
from shared.errors import MessageError
from shared.topics import LAST_WORD_SLOTS
from shared.types import DEFAULT_RING, GateReport, ModelTelemetry

_BOOTS_KEPT = 2 * (1 + LAST_WORD_SLOTS)
"""Twice as many as the broker keeps words of, as they may be heard in another order than they began in."""
_DEVICE_WIDTHS_BELOW_A_DAY_S = tuple(width_s for width_s in DEVICE_WIDTHS_S if width_s != DAY_S)


@dataclass(frozen=True)
class ModelState:
    """The newest booked word of one series. `heard_s`: server's clock, seconds since 1970-01-01 UTC."""

    series: Series
    snapshot: Snapshot
    model_digest: str
    gate: GateReport
    cloud_link: str
    heard_s: int
    ring: str = DEFAULT_RING


@dataclass(frozen=True)
class Changes:
    """The rows that one transaction writes, each whole. `outdated` and `refused` count messages that change nothing.

    `evidence` is what the gates are judged by; `watches`, `alarms` and `policies` are what was concluded from it.
    """

    devices: Mapping[str, DeviceState] = field(default_factory=dict)
    states: Mapping[Series, ModelState] = field(default_factory=dict)
    counts: Mapping[CountKey, Tally] = field(default_factory=dict)
    outdated: int = 0
    refused: int = 0
    evidence: Mapping[GateKey, Evidence] = field(default_factory=dict)
    watches: Mapping[WatchKey, GateWatch] = field(default_factory=dict)
    alarms: tuple[GateAlarm, ...] = ()
    policies: tuple[IssuedPolicy, ...] = ()


class Book:
    """Begins with what the store holds."""

    def __init__(self, devices: Iterable[DeviceState], states: Iterable[ModelState]) -> None:
        self._devices = {device.device_id: device for device in devices}
        self._states = {state.series: state for state in states}
        self._counts: dict[Bucket, dict[CountKey, Tally]] = {}

    @property
    def devices(self) -> Iterable[DeviceState]:
        """Every device ever heard."""
        return self._devices.values()

    def turn_to(self, now_s: int) -> frozenset[Bucket]:
        """Close the buckets of other times; returns those of `now_s` whose counts `open` must be given first."""
        needed = buckets_at(now_s)
        self._counts = {bucket: counts for bucket, counts in self._counts.items() if bucket in needed}
        return needed - self._counts.keys()

    def open(self, bucket: Bucket, counts: Mapping[CountKey, Tally]) -> None:
        """Go on counting in `bucket` from the counts that the store holds of it."""
        self._counts[bucket] = dict(counts)

    def plan(self, batch: Batch, now_s: int) -> Changes:
        """What `batch` changes when it is booked at `now_s`. Its buckets must be open."""
        plan = _Plan(self, now_s)
        for heard in batch.telemetry:
            plan.book(heard)
        for word in batch.presences:
            before = plan.device(word.presence.device_id)
            plan.put(after_presence(before, word.presence, word.heard_s, retained=word.retained))
        return plan.changes()

    def applied(self, changes: Changes) -> None:
        """The store has committed `changes`."""
        self._devices.update(changes.devices)
        self._states.update(changes.states)
        for key, tally in changes.counts.items():
            self._counts[key.bucket][key] = tally

    def device(self, device_id: str) -> DeviceState | None:
        """What is committed of a device."""
        return self._devices.get(device_id)

    def state(self, series: Series) -> ModelState | None:
        """What is committed of a series."""
        return self._states.get(series)

    def tally(self, key: CountKey) -> Tally:
        """What is committed under `key`, in an open bucket."""
        return self._counts[key.bucket].get(key, NOTHING)

    def forgettable(self, before_s: int) -> tuple[Series, ...]:
        """Series of boots that ended long ago: last heard before `before_s`, and many boots of the device came since.

        A running boot's are never forgotten. Nor are those of a device's newest boots: the broker keeps their last
        messages for ever and says them again at every start, and a series that is not remembered counts from zero.
        """
        boots: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
        for series, state in self._states.items():
            heard = boots[(series.device_id, series.model)]
            heard[series.boot_id] = max(heard.get(series.boot_id, 0), state.heard_s)
        oldest_kept = {topic: _oldest_kept(heard) for topic, heard in boots.items()}
        return tuple(
            series
            for series, state in self._states.items()
            if state.heard_s < min(before_s, oldest_kept[(series.device_id, series.model)]) and self._has_ended(series)
        )

    def forget(self, forgotten: Iterable[Series]) -> None:
        """The store has deleted these series."""
        for series in forgotten:
            self._states.pop(series, None)

    def _has_ended(self, series: Series) -> bool:
        device = self._devices.get(series.device_id)
        return device is not None and device.boot_id != series.boot_id


class _Plan:
    """Changes in the making, on top of a book."""

    def __init__(self, book: Book, now_s: int) -> None:
        self._book = book
        self._now_s = now_s
        self._devices: dict[str, DeviceState] = {}
        self._states: dict[Series, ModelState] = {}
        self._counts: dict[CountKey, Tally] = {}
        self._fleet: dict[Share, TallySum] = defaultdict(TallySum)
        self._evidence: dict[GateKey, Evidence] = defaultdict(Evidence)
        self._outdated = 0
        self._refused = 0

    def device(self, device_id: str) -> DeviceState | None:
        return self._devices.get(device_id) or self._book.device(device_id)

    def put(self, device: DeviceState) -> None:
        if device != self._book.device(device.device_id):
            self._devices[device.device_id] = device

    def book(self, heard: HeardTelemetry) -> None:
        series = heard.series
        last = self._book.state(series)
        if last and heard.sequence <= last.snapshot.sequence:
            self._outdated += 1
            return
        told = decode_sound_telemetry(heard.payload)
        snapshot = snapshot_of(told)
        try:
            grown = increase(last.snapshot if last else None, snapshot)
        except MessageError:
            self._refused += 1
            return
        self._states[series] = ModelState(
            series, snapshot, told.model.digest, told.gate, told.cloud_link, heard.heard_s, told.ring
        )
        self.put(after_telemetry(self.device(series.device_id), told, heard.heard_s, retained=heard.retained))
        if not grown.is_nothing:
            self._count(series, told.ring, grown)
        self._judge(told, further_verdicts(last.snapshot.verdicts if last else None, snapshot.verdicts), grown)

    def changes(self) -> Changes:
        for share, grown in self._fleet.items():
            self._add(share.keys(WHOLE_FLEET, FLEET_WIDTHS_S, self._now_s), grown.tally())
        return Changes(self._devices, self._states, self._counts, self._outdated, self._refused, self._evidence)

    def _count(self, series: Series, ring: str, grown: Tally) -> None:
        """The whole fleet's counts are added up first and booked once."""
        share = Share(series.model, series.model_version, series.variant, ring)
        self._fleet[share].add(grown)
        self._add(share.keys(series.device_id, _DEVICE_WIDTHS_BELOW_A_DAY_S, self._now_s), grown.without_labels())
        self._add(share.keys(series.device_id, (DAY_S,), self._now_s), grown)

    def _judge(self, told: ModelTelemetry, found: Verdicts, grown: Tally) -> None:
        if not told.gate.digest or not (found.audits or found.labels or found.scores or grown.labels):
            return
        key = GateKey(told.model.name, told.model.version, told.gate.digest, told.ring)
        self._evidence[key].add(told.gate.threshold, found.audits, found.labels, found.scores, grown.labels)

    def _add(self, keys: Iterable[CountKey], grown: Tally) -> None:
        for key in keys:
            before = self._counts.get(key)
            self._counts[key] = (self._book.tally(key) if before is None else before) + grown


def _oldest_kept(heard_s_by_boot: Mapping[str, int]) -> int:
    """When the oldest of the boots was heard whose words the broker may still have."""
    return sorted(heard_s_by_boot.values(), reverse=True)[:_BOOTS_KEPT][-1]
