"""Takes messages in, and books them into the store at every interval."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import anyio
from anyio import CapacityLimiter, to_thread

from cloud_service.fleet.book import Book, Changes, ModelState
from cloud_service.fleet.buckets import Bucket, CountKey, Retention
from cloud_service.fleet.deltas import Series
from cloud_service.fleet.inbox import Batch, Inbox, InboxStatistics
from cloud_service.fleet.pacing import Pace
from cloud_service.fleet.presence import DeviceState
from cloud_service.fleet.pruning import PruneRule
from cloud_service.fleet.status import FleetStatus
from cloud_service.fleet.tally import Tally
from cloud_service.watch.desk import Decisions, WatchDesk
from cloud_service.watch.records import GateWatch, IssuedPolicy, KnownGate, WatchRecords
from cloud_service.watch.settings import WatchRules
from shared.clock import Clock
from shared.errors import StorageError, StoreTaken
from shared.mqtt import Message

_log = logging.getLogger(__name__)
_INBOX_CAPACITY = 65_536
_FULL_RECHECK_S = 1.0
DEFAULT_RULES = WatchRules()
_Result = TypeVar("_Result")


class Store(Protocol):
    """What ingest asks of the store; see `cloud_service.storage.fleet_store.FleetStore`. Blocking."""

    def claim(self, status: FleetStatus) -> None:
        """Become the one writer."""
        ...

    def load(self) -> tuple[list[DeviceState], list[ModelState]]:
        """Everything booked last."""
        ...

    def load_counts(self, bucket: Bucket) -> dict[CountKey, Tally]:
        """What is counted in a bucket."""
        ...

    def keep_gates(self, gates: Sequence[KnownGate]) -> None:
        """Remember gates."""
        ...

    def load_watch(self) -> WatchRecords:
        """Everything that is known of gates."""
        ...

    def unpublished(self) -> tuple[IssuedPolicy, ...]:
        """Orders that the broker has not taken yet, by sequence."""
        ...

    def commit(self, changes: Changes, status: FleetStatus) -> None:
        """Write all or nothing."""
        ...

    def prune(self, kept_since: Mapping[int, int], forgotten: Sequence[Series]) -> int:
        """Delete what is too old."""
        ...


@dataclass(frozen=True)
class BrokerState:
    """What the page is told of the broker."""

    address: str
    is_connected: bool
    error: str


@dataclass(frozen=True)
class IngestStatistics:
    """Counts since the start; `lag_s`: how long the oldest booked message of the last commit had waited.

    `alarms` by kind; `watches`: as of the last commit.
    """

    inbox: InboxStatistics
    commits: int
    commit_failures: int
    commit_seconds: float
    outdated: int
    refused: int
    lag_s: float
    last_commit_s: int
    devices_online: int
    devices_offline: int
    alarms: Mapping[str, int]
    watches: tuple[GateWatch, ...]


class Ingest:
    """Cumulative counts in, booked increases out. What the store cannot take now is kept and tried again.

    `spent_s` tells how much of a thread's CPU time has gone by, as `time.thread_time` does.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        broker: Callable[[], BrokerState],
        *,
        commit_interval_s: float,
        retention: Retention,
        rules: WatchRules = DEFAULT_RULES,
        gates: Sequence[KnownGate] = (),
        inbox_capacity: int = _INBOX_CAPACITY,
        spent_s: Callable[[], float] = time.thread_time,
    ) -> None:
        self._store = store
        self._clock = clock
        self._broker = broker
        self._interval_s = commit_interval_s
        self._retention = retention
        self._rules = rules
        self._gates = gates
        self._inbox = Inbox(inbox_capacity)
        self._spent_s = spent_s
        self._pace = Pace(commit_interval_s)
        self._book: Book | None = None
        self._desk: WatchDesk | None = None
        self._alarms: Counter[str] = Counter()
        self._watches: tuple[GateWatch, ...] = ()
        self._prune_rule = PruneRule()
        self._one_thread = CapacityLimiter(1)
        self._drained = anyio.Event()
        self._started_s = self._now_s()
        self._commits = self._failures = self._outdated = self._refused = 0
        self._commit_seconds = self._lag_s = 0.0
        self._last_commit_s = self._online = self._offline = 0

    async def take(self, message: Message) -> None:
        """Take one message in; waits while there is no room."""
        while self._inbox.is_full:
            with anyio.move_on_after(_FULL_RECHECK_S):
                await self._drained.wait()
        self._inbox.take_in(message, self._now_s())

    async def open(self) -> None:
        """Become the store's writer, and tell it of the gates.

        Raises:
            StorageError: the store cannot be used.
        """
        await self._in_thread(lambda: self._store.claim(self._status()))
        await self._in_thread(lambda: self._store.keep_gates(self._gates))

    async def run(self) -> None:
        """Commit at every interval what fits into its share of the time, until cancelled; a slow store gets a rest.

        Raises:
            StoreTaken: another fleet service has claimed the store.
        """
        took_s = 0.0
        while True:
            await self._clock.sleep(max(self._interval_s / 2, self._interval_s - took_s))
            began_s = self._clock.monotonic_s()
            await self.commit(self._pace.allowance)
            took_s = self._clock.monotonic_s() - began_s

    async def commit(self, most: int | None = None) -> None:
        """Book what has been heard, at `most` so many telemetry messages; on failure it waits for the next time.

        Raises:
            StoreTaken: another fleet service has claimed the store.
        """
        batch = self._inbox.drain(most)
        self._drained.set()
        self._drained = anyio.Event()
        began_s = self._clock.monotonic_s()
        try:
            await self._in_thread(lambda: self._book_batch(batch))
        except StoreTaken:
            raise
        except StorageError as error:
            self._failures += 1
            self._inbox.put_back(batch)
            _log.error("nothing was booked, trying again: %s", error)
        else:
            self._commits += 1
        self._commit_seconds += self._clock.monotonic_s() - began_s

    def statistics(self) -> IngestStatistics:
        """See `IngestStatistics`."""
        return IngestStatistics(
            self._inbox.statistics(),
            self._commits,
            self._failures,
            self._commit_seconds,
            self._outdated,
            self._refused,
            self._lag_s,
            self._last_commit_s,
            self._online,
            self._offline,
            dict(self._alarms),
            self._watches,
        )

    def _book_batch(self, batch: Batch) -> None:
        """In the worker thread. After a failure the book is read anew: whether a commit took hold may be unknown."""
        began_s = self._spent_s()
        book, self._book = self._book or Book(*self._store.load()), None
        desk, self._desk = self._desk or WatchDesk(self._store.load_watch(), self._rules), None
        now_s = self._now_s()
        for bucket in book.turn_to(now_s):
            book.open(bucket, self._store.load_counts(bucket))
        desk.heed(self._store.unpublished())
        changes = book.plan(batch, now_s)
        decided = desk.plan(changes.evidence, int(self._clock.unix_s() * 1000))
        changes = replace(changes, watches=decided.watches, alarms=decided.alarms, policies=decided.policies)
        self._store.commit(changes, self._status())
        book.applied(changes)
        desk.applied(decided)
        self._note_watch(desk, decided)
        self._note(book, batch, changes, now_s)
        self._pace.note(len(batch.telemetry), self._spent_s() - began_s)
        if self._prune_rule.is_due(self._clock.unix_s(), self._clock.monotonic_s()):
            self._prune(book, now_s)
        self._book, self._desk = book, desk

    def _prune(self, book: Book, now_s: int) -> None:
        forgotten = book.forgettable(now_s - self._retention.minutes_s)
        gone = self._store.prune(self._retention.kept_since(now_s), forgotten)
        book.forget(forgotten)
        _log.debug("pruned %d rows", gone)

    def _note(self, book: Book, batch: Batch, changes: Changes, now_s: int) -> None:
        heard = (*(each.waits_since_s for each in batch.telemetry), *(each.heard_s for each in batch.presences))
        self._lag_s = max(0.0, now_s - min(heard, default=now_s))
        self._last_commit_s = now_s
        self._outdated += changes.outdated
        self._refused += changes.refused
        online = [device.is_online for device in book.devices]
        self._online, self._offline = sum(online), len(online) - sum(online)

    def _note_watch(self, desk: WatchDesk, decided: Decisions) -> None:
        self._watches = tuple(desk.watches)
        for alarm in decided.alarms:
            self._alarms[alarm.kind.value] += 1
            _log.warning("alarm: %s", alarm.text)

    def _status(self) -> FleetStatus:
        broker = self._broker()
        return FleetStatus(self._started_s, self._now_s(), broker.address, broker.is_connected, broker.error)

    def _now_s(self) -> int:
        return int(self._clock.unix_s())

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        return await to_thread.run_sync(work, limiter=self._one_thread)
