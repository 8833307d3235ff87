"""The repository's files in blocks over MQTT, for devices that reach nothing but the broker.

The device asks, publishers answer on its own topic. Nothing is kept beside the transfer itself: lost, doubled, late and
reordered blocks, a broker or a publisher that restarts, all end in asking again for what has not come.
"""

from __future__ import annotations

import logging
import random
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Protocol

import anyio

from edge_agent.update.block_fetch import BlockFetch, Flight
from edge_agent.update.publishers import Publishers
from edge_agent.update.windows import Pacer, Patience, TransferLimits
from shared import topics
from shared.backoff import Backoff
from shared.clock import Clock
from shared.errors import BrokerError, FetchFailed, FileNotThere, MessageError
from shared.mqtt import Message
from shared.update.blocks import Block, BlockRange, BlockRequest
from shared.update.codec import decode_block, decode_publisher, encode_block_request
from shared.update.names import checked_repository_path

_log = logging.getLogger(__name__)
_LONGEST_BUSY_S = 60.0
_LEAST_WAIT_S = 0.001
_HAND_ON_PARTS = 4
"""A transfer is woken for a quarter of its window: for each block, waking costs more than the block."""


class Publish(Protocol):
    """See `shared.mqtt.BrokerLink.publish`."""

    async def __call__(self, topic: str, payload: bytes, *, retain: bool, qos: int) -> None:
        """Publish.

        Raises:
            BrokerError: the broker is not connected.
        """
        ...


class MqttSource:
    """Implements `RepositorySource`. Its link subscribes to `subscriptions`, and tells `hear` and `reconnected`.

    Memory: the window for each transfer, or one file of `read_many` where that is longer.
    """

    def __init__(
        self,
        device_id: str,
        publish: Publish,
        clock: Clock,
        limits: TransferLimits | None = None,
        *,
        uniform: Callable[[], float] = random.random,
        make_id: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        """`make_id` gives request ids that nobody can guess."""
        self._device_id = device_id
        self._publish = publish
        self._clock = clock
        self._limits = limits or TransferLimits()
        self._uniform = uniform
        self._make_id = make_id
        self._topic = topics.block_request(device_id)
        self._data_topic = topics.block_data(device_id)
        self._publishers = Publishers(uniform)
        self._pacer = Pacer(self._limits)
        self._backoff = Backoff()
        self._broker_failures = 0
        self._quiet_until_s = float("-inf")
        self._transfers: dict[str, _Transfer] = {}
        self._bytes_received = 0

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """What the link is to subscribe to."""
        return self._data_topic, topics.ALL_PUBLISHERS

    @property
    def bytes_received(self) -> int:
        """See `RepositorySource`; of blocks that came twice, both count."""
        return self._bytes_received

    async def read(self, path: str, *, most_bytes: int) -> AsyncIterator[bytes]:
        """See `RepositorySource`."""
        with self._transfer((path,), most_bytes) as transfer:
            while True:
                for data in transfer.fetch.in_order():
                    yield data
                if transfer.fetch.is_done:
                    return
                await self._go_on(transfer)

    async def read_many(self, paths: Sequence[str], *, most_bytes: int) -> AsyncIterator[tuple[str, bytes]]:
        """See `RepositorySource`."""
        with self._transfer(paths, most_bytes) as transfer:
            while True:
                for path, data in transfer.fetch.whole_files():
                    yield path, data
                if transfer.fetch.is_done:
                    return
                await self._go_on(transfer)

    async def hear(self, message: Message) -> None:
        """Take a message in, whatever its topic; what is none of ours, or malformed, is left alone."""
        try:
            if message.topic == self._data_topic:
                self._hear_block(decode_block(message.payload))
            elif message.topic.startswith(topics.PUBLISHERS + "/"):
                self._hear_publisher(message)
        except MessageError as error:
            _log.warning("a message on %s is left alone: %s", message.topic, error)

    async def reconnected(self) -> None:
        """What was under way when the broker was lost will not come."""
        self._broker_failures = 0
        self._quiet_until_s = float("-inf")
        self._pacer.start_afresh()
        self._recall(lambda flight: True)

    def _transfer(self, paths: Iterable[str], most_bytes: int) -> _Transfer:
        try:
            checked = [checked_repository_path(path) for path in paths]
        except MessageError as error:
            raise FileNotThere(str(error)) from error
        fetch = BlockFetch(self._make_id(), checked, most_bytes, self._limits)
        return _Transfer(fetch, Patience(self._limits), self._transfers)

    async def _go_on(self, transfer: _Transfer) -> None:
        """Ask for what fits, and wait until something came or is overdue.

        Raises:
            FetchFailed: it cannot be had, or not at this pace.
        """
        wake_s = await self._ask(transfer)
        if transfer.fetch.failure:
            raise transfer.fetch.failure
        began_s, began_bytes = self._clock.monotonic_s(), transfer.handed_on_bytes
        wait_s = min(wake_s - began_s, transfer.patience.left_s)
        with anyio.move_on_after(max(_LEAST_WAIT_S, wait_s)):
            await transfer.news.wait()
        transfer.news = anyio.Event()
        waited_s = self._clock.monotonic_s() - began_s
        transfer.handed_on_bytes = transfer.fetch.useful_bytes
        transfer.patience.waited(waited_s, transfer.handed_on_bytes - began_bytes)
        if transfer.fetch.failure:
            raise transfer.fetch.failure
        if problem := transfer.patience.problem():
            raise FetchFailed(f"blocks over MQTT: {problem}")

    async def _ask(self, transfer: _Transfer) -> float:
        """Returns: until when there is nothing to do unless something comes, on the monotonic clock."""
        now_s = self._clock.monotonic_s()
        self._note_overdue(transfer.fetch.overdue(now_s), now_s)
        if now_s < self._quiet_until_s:
            return self._quiet_until_s
        chosen = self._publishers.choose(now_s)
        if chosen is None:
            return min(self._publishers.next_free_s(), transfer.fetch.next_deadline_s)
        in_flight = sum(each.fetch.in_flight_bytes for each in self._transfers.values())
        asked = transfer.fetch.ask(
            self._pacer.window_bytes - in_flight,
            min(self._pacer.block_bytes, chosen.block_bytes),
            chosen.publisher,
            now_s,
            lambda: self._pacer.timeout_s(self._uniform),
        )
        if asked:
            await self._send(transfer.fetch, asked)
        quiet_until_s = self._quiet_until_s if self._quiet_until_s > now_s else float("inf")
        return min(transfer.fetch.next_deadline_s, quiet_until_s)

    async def _send(self, fetch: BlockFetch, asked: Sequence[Flight]) -> None:
        ranges = tuple(BlockRange(flight.part.path, flight.part.offset, flight.part.length) for flight in asked)
        request = BlockRequest(fetch.request_id, ranges, max(each.length for each in ranges), asked[0].publisher)
        try:
            await self._publish(self._topic, encode_block_request(request), retain=False, qos=0)
            self._broker_failures = 0
        except BrokerError as error:
            self._broker_failures += 1
            delay_s = self._backoff.delay_s(self._broker_failures, self._uniform)
            self._quiet_until_s = self._clock.monotonic_s() + delay_s
            fetch.recall(lambda flight: flight.batch == asked[0].batch)
            _log.info("blocks are asked for again in %.1f s: %s", delay_s, error)

    def _note_overdue(self, late: Sequence[Flight], now_s: float) -> None:
        """A publisher of which nothing was heard since it was asked is left out for a while, if there is another."""
        if not late:
            return
        self._pacer.timed_out(now_s)
        for flight in late:
            if self._publishers.heard_s(flight.publisher) < flight.asked_s:
                self._publishers.is_mute(flight.publisher, now_s)

    def _hear_block(self, block: Block) -> None:
        self._bytes_received += len(block.data)
        transfer = self._transfers.get(block.request_id)
        flight = transfer.fetch.land(block) if transfer else None
        if transfer is None or flight is None:
            return
        now_s = self._clock.monotonic_s()
        self._publishers.answers(block.publisher, now_s)
        if block.retry_after_ms:
            wait_s = min(_LONGEST_BUSY_S, block.retry_after_ms / 1e3) * (1 + 0.25 * self._uniform())
            self._publishers.is_busy(block.publisher, now_s + wait_s)
        elif not flight.is_repeated:
            self._pacer.delivered(now_s - flight.asked_s, len(block.data), now_s)
        is_any_lost = transfer.fetch.overtaken(flight)
        if is_any_lost:
            self._pacer.lost(now_s)
        if is_any_lost or block.retry_after_ms or transfer.is_worth_waking(self._pacer.window_bytes):
            transfer.news.set()

    def _hear_publisher(self, message: Message) -> None:
        presence = decode_publisher(message.payload)
        if message.topic != topics.publisher(presence.publisher):
            raise MessageError(f"a publisher calls itself {presence.publisher}")
        was_silent = self._publishers.is_silent(presence.publisher, self._clock.monotonic_s())
        self._publishers.hear(presence)
        if was_silent or not presence.online:
            self._pacer.start_afresh()
            self._recall(lambda flight: flight.publisher == presence.publisher)
        self._wake_all()

    def _recall(self, which: Callable[[Flight], bool]) -> None:
        for transfer in self._transfers.values():
            transfer.fetch.recall(which)
        self._wake_all()

    def _wake_all(self) -> None:
        for transfer in self._transfers.values():
            transfer.news.set()


class _Transfer:
    """A fetch that is known to the source for as long as somebody reads it."""

    def __init__(self, fetch: BlockFetch, patience: Patience, known: dict[str, _Transfer]) -> None:
        self.fetch = fetch
        self.patience = patience
        self.news = anyio.Event()
        self.handed_on_bytes = 0
        self._known = known

    def is_worth_waking(self, window_bytes: int) -> bool:
        """Whether its reader can go on for a while, or must, as nothing more would come."""
        fetch = self.fetch
        is_stuck = fetch.is_idle or fetch.failure is not None
        return is_stuck or fetch.useful_bytes - self.handed_on_bytes >= window_bytes // _HAND_ON_PARTS

    def __enter__(self) -> _Transfer:
        self._known[self.fetch.request_id] = self
        return self

    def __exit__(self, *exception: object) -> None:
        del self._known[self.fetch.request_id]
