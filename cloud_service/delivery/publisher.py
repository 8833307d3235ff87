"""Answers devices' requests for pieces of the repository's files, over MQTT.

Blocks go with QoS 0: the device asks again for what it misses, so a second acknowledgement would only cost.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import anyio
import anyio.lowlevel
from anyio import CapacityLimiter, to_thread
from anyio.streams.memory import MemoryObjectReceiveStream

from cloud_service.delivery.fair_queue import DeliveryLimits, FairQueue, Piece
from cloud_service.delivery.files import RepositoryFiles
from shared import topics
from shared.clock import Clock
from shared.errors import BrokerError, MessageError
from shared.mqtt import Message
from shared.update.blocks import Block, BlockRequest, PublisherPresence
from shared.update.codec import decode_block_request, encode_block, encode_publisher

_log = logging.getLogger(__name__)
_READ_AT_ONCE_BYTES = 4 << 20
_LONGEST_REST_S = 5.0
_PRESENCE_EVERY_S = 1.0
_PRESENCE_SLACK_RANGES = 16
_READ_AGAIN_MS = 5000
_Answers = list[tuple[str, Block]]


class Publish(Protocol):
    """See `shared.mqtt.BrokerLink.publish`."""

    async def __call__(self, topic: str, payload: bytes, *, retain: bool, qos: int = 1) -> None:
        """Publish, and wait until it is sent (QoS 0) or the broker has it (QoS 1).

        Raises:
            BrokerError: the broker is not connected.
        """
        ...


@dataclass(frozen=True)
class DeliveryStatistics:
    """Counts since the start; `ranges_waiting` is of now."""

    requests: int = 0
    malformed: int = 0
    refused: int = 0
    missing: int = 0
    blocks_sent: int = 0
    bytes_sent: int = 0
    ranges_waiting: int = 0


class BlockPublisher:
    """One of the publishers. Its link has `will`, subscribes to `subscriptions`, and tells `hear` and `introduce`."""

    def __init__(
        self, name: str, files: RepositoryFiles, publish: Publish, clock: Clock, limits: DeliveryLimits
    ) -> None:
        """`name`: the publisher's id, of which each has its own."""
        self._name = name
        self._files = files
        self._publish = publish
        self._clock = clock
        self._limits = limits
        self._queue = FairQueue(limits, clock.monotonic_s())
        self._topic = topics.publisher(name)
        self._news = anyio.Event()
        self._told_waiting = 0
        self._one_thread = CapacityLimiter(1)
        self._requests = self._malformed = self._refused = self._missing = self._blocks = self._bytes = 0

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """What the link is to subscribe to."""
        return (topics.ALL_BLOCK_REQUESTS,)

    @property
    def will(self) -> Message:
        """What the broker says when this publisher is gone."""
        return Message(self._topic, self._presence(online=False))

    def statistics(self) -> DeliveryStatistics:
        """What was done so far."""
        counts = (self._requests, self._malformed, self._refused, self._missing, self._blocks, self._bytes)
        return DeliveryStatistics(*counts, ranges_waiting=len(self._queue))

    async def introduce(self) -> None:
        """Say that it is there."""
        self._told_waiting = len(self._queue)
        await self._publish(self._topic, self._presence(online=True), retain=True)

    async def farewell(self) -> None:
        """Say that it leaves on purpose; says nothing where no broker is connected."""
        try:
            await self._publish(self._topic, self._presence(online=False), retain=True)
        except BrokerError as error:
            _log.warning("nobody was told that %s leaves: %s", self._name, error)

    async def hear(self, message: Message) -> None:
        """Take a device's request in; one that is malformed, or meant for another publisher, is left alone."""
        try:
            device_id = topics.parse(message.topic).device_id
            request = decode_block_request(message.payload)
        except MessageError as error:
            self._malformed += 1
            _log.warning("a request on %s is left alone: %s", message.topic, error)
            return
        if request.publisher not in ("", self._name):
            return
        self._requests += 1
        retry_s = self._queue.add(device_id, request, self._clock.monotonic_s())
        if retry_s:
            self._refused += 1
            await self._send(device_id, self._refusal(request, retry_s))
        self._news.set()

    async def run(self) -> None:
        """Send what is due until cancelled."""
        outbox, inbox = anyio.create_memory_object_stream[_Answers](1)
        async with anyio.create_task_group() as tasks, outbox, inbox:
            tasks.start_soon(self._tell_load)
            tasks.start_soon(self._send_all, inbox)
            while True:
                pieces = self._due()
                if pieces:
                    await outbox.send(await self._answer(pieces))
                else:
                    await self._rest()

    def _due(self) -> list[Piece]:
        """As much as is read in one go; read in a thread, as a disk may be slow."""
        pieces: list[Piece] = []
        now_s, room = self._clock.monotonic_s(), _READ_AT_ONCE_BYTES
        while room > 0 and (piece := self._queue.take(now_s)) is not None:
            pieces.append(piece)
            room -= piece.length
        return pieces

    async def _answer(self, pieces: Sequence[Piece]) -> _Answers:
        blocks = await to_thread.run_sync(self._read_all, pieces, limiter=self._one_thread)
        now_s = self._clock.monotonic_s()
        for piece, block in zip(pieces, blocks, strict=True):
            self._queue.settle(piece, len(block.data), block.file_length, now_s)
        return [(piece.device_id, block) for piece, block in zip(pieces, blocks, strict=True)]

    async def _send_all(self, inbox: MemoryObjectReceiveStream[_Answers]) -> None:
        """While these are sent, the next are read."""
        async for answers in inbox:
            for device_id, block in answers:
                await self._send(device_id, block)
            await anyio.lowlevel.checkpoint()

    def _read_all(self, pieces: Sequence[Piece]) -> list[Block]:
        """In a thread. What several devices have asked for is read once: after all of them have asked, so never old."""
        found: dict[tuple[str, int, int], Block] = {}
        blocks = []
        for piece in pieces:
            place = (piece.path, piece.offset, piece.length)
            if place in found:
                blocks.append(replace(found[place], request_id=piece.request_id))
            else:
                blocks.append(found.setdefault(place, self._read(piece)))
        return blocks

    def _read(self, piece: Piece) -> Block:
        told = (piece.request_id, self._name, piece.path, piece.offset)
        nothing = replace(Block(*told, file_length=piece.offset), is_missing=True)
        try:
            part = self._files.read(piece.path, piece.offset, piece.length)
        except FileNotFoundError:
            return nothing
        except OSError as error:
            _log.error("%s cannot be read: %s", piece.path, error)
            return replace(nothing, is_missing=False, retry_after_ms=_READ_AGAIN_MS)
        return nothing if piece.offset > part.file_length else Block(*told, part.file_length, part.data)

    def _refusal(self, request: BlockRequest, retry_s: float) -> Block:
        """Of the request as a whole, by its first range."""
        first = request.ranges[0]
        retry_ms = max(1, int(retry_s * 1e3))
        return Block(request.request_id, self._name, first.path, first.offset, first.offset, retry_after_ms=retry_ms)

    async def _send(self, device_id: str, block: Block) -> None:
        try:
            await self._publish(topics.block_data(device_id), encode_block(block), retain=False, qos=0)
        except BrokerError as error:
            _log.info("a block is not sent, the device will ask again: %s", error)
            return
        self._missing += block.is_missing
        self._blocks += bool(block.data)
        self._bytes += len(block.data)

    async def _rest(self) -> None:
        wait_s = min(_LONGEST_REST_S, self._queue.wait_s(self._clock.monotonic_s()))
        with anyio.move_on_after(wait_s):
            await self._news.wait()
        self._news = anyio.Event()

    async def _tell_load(self) -> None:
        while True:
            await self._clock.sleep(_PRESENCE_EVERY_S)
            if abs(len(self._queue) - self._told_waiting) > max(_PRESENCE_SLACK_RANGES, self._told_waiting // 4):
                try:
                    await self.introduce()
                except BrokerError as error:
                    _log.info("the load is told later: %s", error)

    def _presence(self, *, online: bool) -> bytes:
        now_ms = int(self._clock.unix_s() * 1e3)
        told = PublisherPresence(self._name, online, now_ms, self._limits.block_bytes, self._told_waiting)
        return encode_publisher(told)
