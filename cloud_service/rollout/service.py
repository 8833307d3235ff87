"""The rollout service: reports in, decisions made, orders signed and told, again and again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import anyio
from anyio import CapacityLimiter, to_thread

from cloud_service.rollout.conductor import Conductor
from cloud_service.rollout.device_order import DeviceOrder
from cloud_service.rollout.inbox import InboxStatistics, ReportInbox
from cloud_service.rollout.messenger import Messenger
from cloud_service.rollout.ring_order import RingOrder
from cloud_service.storage.rollout_pins import PinStore
from cloud_service.storage.rollout_store import RolloutStore
from shared.clock import Clock
from shared.errors import StorageError
from shared.mqtt import BrokerStatistics, Message

_log = logging.getLogger(__name__)
_INBOX_CAPACITY = 20_000
_PRUNE_EVERY_S = 3600.0
_Result = TypeVar("_Result")


class RolloutService:
    """`take` is for the link's `on_message`, `hears_of_connection` for its `on_connect`."""

    def __init__(
        self,
        store: RolloutStore,
        pins: PinStore,
        conductor: Conductor,
        messengers: Sequence[Messenger[RingOrder] | Messenger[DeviceOrder]],
        clock: Clock,
        *,
        interval_s: float,
        kept_days: int,
        link: Callable[[], BrokerStatistics],
        inbox_capacity: int = _INBOX_CAPACITY,
    ) -> None:
        """`link`: how the link stands, through which reports come; `kept_days`: see `RolloutSettings`."""
        self._store = store
        self._pins = pins
        self._conductor = conductor
        self._messengers = messengers
        self._clock = clock
        self._interval_s = interval_s
        self._kept_s = kept_days * 86_400
        self._pruned_at_s = -_PRUNE_EVERY_S
        self._link = link
        self._connection = 0
        self._heard_since_s = clock.monotonic_s()
        self._inbox = ReportInbox(inbox_capacity)
        self._drained = anyio.Event()
        self._one_thread = CapacityLimiter(1)
        self._problem = ""

    async def take(self, message: Message) -> None:
        """Take a device's report in; waits while the inbox is full."""
        while self._inbox.is_full:
            await self._drained.wait()
        self._inbox.take_in(message, int(self._clock.unix_s()))

    async def hears_of_connection(self) -> None:
        """For the link's `on_connect`: a broker that has lost its store is told everything anew."""
        for messenger in self._messengers:
            await messenger.hears_of_connection()

    async def run(self) -> None:
        """One turn at every interval, until cancelled."""
        while True:
            await self.turn()
            await self._clock.sleep(self._interval_s)

    async def turn(self) -> None:
        """Hear, decide, tell. What the store cannot take now is kept and tried again."""
        try:
            if not await self._in_thread(self._store.is_ready):
                raise StorageError("the store is not set up; the fleet service does that")
            await self._hear()
            for step in await self._in_thread(partial(self._conductor.advance, self._heard_for_s())):
                for decision in step.decisions:
                    _log.info("rollout %s: %s", step.rollout.id, decision.reason)
            for messenger in self._messengers:
                await messenger.deliver()
            await self._prune()
        except StorageError as error:
            self._complain(f"rollouts wait: {error}")
        else:
            self._complain("")

    def statistics(self) -> InboxStatistics:
        """What was heard so far."""
        return self._inbox.statistics()

    async def _hear(self) -> None:
        heard = self._inbox.drain()
        self._drained.set()
        self._drained = anyio.Event()
        try:
            if heard:
                await self._in_thread(lambda: self._conductor.hear(heard))
        except StorageError:
            self._inbox.put_back(heard)
            raise

    async def _prune(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._pruned_at_s >= _PRUNE_EVERY_S:
            self._pruned_at_s = now_s
            kept_since_s = int(self._clock.unix_s() - self._kept_s)
            await self._in_thread(partial(self._store.prune, kept_since_s))
            await self._in_thread(partial(self._pins.prune, kept_since_s))

    def _heard_for_s(self) -> float:
        """Since when this connection stands; what devices said before it comes again, as it is retained."""
        link, now_s = self._link(), self._clock.monotonic_s()
        if not link.connected or link.connections != self._connection:
            self._connection, self._heard_since_s = link.connections, now_s
        return now_s - self._heard_since_s

    def _complain(self, problem: str) -> None:
        if problem and problem != self._problem:
            _log.warning("%s", problem)
        self._problem = problem

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        return await to_thread.run_sync(work, limiter=self._one_thread)
