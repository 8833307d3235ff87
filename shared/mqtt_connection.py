"""One connection to the broker: MQTT 3.1.1 with QoS 1 straight on asyncio.

A general client library hands over one message at a time, each with reads, locks and a queue of its own. Here
whatever has arrived is one batch, and what was handled is acknowledged together.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import cast

import anyio

from shared import mqtt_packets as packets
from shared.errors import BrokerError, MessageError
from shared.mqtt_packets import Arrival, Message

_ANSWER_TIMEOUT_S = 5.0
_MOST_UNANSWERED = 1000
_MOST_ARRIVED = 20_000
_UNHEARD_TICKS = 2
_ACKNOWLEDGED_TOGETHER = 10
"""Fewer than a broker commonly has in flight (mosquitto: 20), so that it need not wait for the timer."""
_LATEST_ACKNOWLEDGEMENT_S = 0.01


@dataclass(frozen=True)
class BrokerAddress:
    """Where the broker is and who we are there. `ca_file` set means TLS."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None
    ca_file: str | None = None
    keepalive_s: int = 20


async def open_connection(
    address: BrokerAddress, client_id: str, tls: ssl.SSLContext | None, will: Message | None = None
) -> Connection:
    """Connect and be taken by the broker, within 5 s.

    Raises:
        BrokerError: it is not there, or refuses us.
    """
    connection = Connection(address.keepalive_s)
    loop = asyncio.get_running_loop()
    try:
        with anyio.fail_after(_ANSWER_TIMEOUT_S):
            await loop.create_connection(lambda: connection, address.host, address.port, ssl=tls)
            packet = packets.connect_packet(
                client_id, address.keepalive_s, username=address.username, password=address.password, will=will
            )
            await connection.introduce(packet)
    except TimeoutError as error:
        connection.abandon("no answer within 5 s")
        raise BrokerError("no answer within 5 s") from error
    except OSError as error:
        raise BrokerError(str(error)) from error
    except BaseException:
        connection.abandon("given up")
        raise
    return connection


class Connection(asyncio.Protocol):
    """Made by `open_connection`; leave it as a context, or by `close`."""

    def __init__(self, keepalive_s: int) -> None:
        self._tick_s = keepalive_s / 2
        self._reader = packets.PacketReader()
        self._transport: asyncio.Transport | None = None
        self._welcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unanswered: dict[int, asyncio.Future[bytes]] = {}
        self._last_identifier = 0
        self._arrived: list[Arrival] = []
        self._news = asyncio.Event()
        self._problem = ""
        self._has_sent = self._has_heard = self._is_paused = False
        self._unheard_ticks = 0
        self._alarm: asyncio.TimerHandle | None = None
        self._handled: list[int] = []
        self._flush_alarm: asyncio.TimerHandle | None = None

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def introduce(self, connect_packet: bytes) -> None:
        """Say CONNECT and wait until we are taken.

        Raises:
            BrokerError: the broker refuses us, or hangs up.
        """
        self._send(connect_packet)
        await self._welcome
        self._alarm = asyncio.get_running_loop().call_later(self._tick_s, self._tick)

    async def subscribe(self, topic_filter: str) -> None:
        """Raises: BrokerError: refused, or no answer within 5 s."""
        identifier, answer = self._expect_answer()
        body = await self._ask(packets.subscribe_packet(identifier, topic_filter), identifier, answer)
        if body[2:3] not in (b"\x00", b"\x01"):
            raise BrokerError(f"the broker refuses the subscription to {topic_filter}")

    async def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """With QoS 1, until acknowledged.

        Raises:
            BrokerError: the connection is lost, or no acknowledgement came within 5 s.
        """
        identifier, answer = self._expect_answer()
        await self._ask(packets.publish_packet(identifier, topic, payload, retain=retain), identifier, answer)

    async def next_batch(self) -> list[Arrival]:
        """All that has arrived, at least one message; `acknowledge` it once it is handled.

        Raises:
            BrokerError: the connection is lost.
        """
        while not self._arrived:
            if self._problem:
                raise BrokerError(self._problem)
            self._news.clear()
            await self._news.wait()
        batch, self._arrived = self._arrived, []
        if self._is_paused and self._transport:
            self._is_paused = False
            self._transport.resume_reading()
        return batch

    def acknowledge(self, batch: Iterable[Arrival]) -> None:
        """Tell the broker that these need not be sent again: a few together, and none later than 10 ms."""
        self._handled += [each.identifier for each in batch if each.identifier]
        if len(self._handled) >= _ACKNOWLEDGED_TOGETHER:
            self._flush()
        elif self._handled and self._flush_alarm is None:
            self._flush_alarm = asyncio.get_running_loop().call_later(_LATEST_ACKNOWLEDGEMENT_S, self._flush)

    def close(self) -> None:
        """Say DISCONNECT, so that the broker publishes no will, and hang up."""
        if self._transport and not self._problem:
            self._flush()
            self._transport.write(packets.DISCONNECT_PACKET)
            self._transport.close()
        self._end("closed")

    def abandon(self, problem: str) -> None:
        """Hang up without a word; the broker publishes the will."""
        if self._transport:
            self._transport.abort()
        self._end(problem)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's inherits from nothing of asyncio's

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._unheard_ticks = 0
        try:
            if not self._has_heard and data[0] != packets.CONNACK:
                raise MessageError("its first word is no CONNACK")
            self._has_heard = True
            for first, body in self._reader.feed(data):
                if first & 0xF0 == packets.PUBLISH:
                    self._arrived.append(packets.arrival(first, body))
                else:
                    self._take_answer(first & 0xF0, body)
        except MessageError as error:
            self.abandon(f"the broker does not speak MQTT 3.1.1: {error}")
            return
        if self._arrived:
            self._news.set()
            if len(self._arrived) >= _MOST_ARRIVED and self._transport and not self._is_paused:
                self._is_paused = True
                self._transport.pause_reading()

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._end(f"the connection is lost: {error}" if error else "the broker closed the connection")

    def _take_answer(self, kind: int, body: bytes) -> None:
        if kind == packets.CONNACK and not self._welcome.done():
            refusal = packets.refusal_of(body)
            if refusal:
                self.abandon(refusal)
            else:
                self._welcome.set_result(None)
        elif kind in (packets.PUBACK, packets.SUBACK):
            answer = self._unanswered.get(packets.identifier_of(body))
            if answer and not answer.done():
                answer.set_result(body)
        elif kind != packets.PINGRESP:
            raise MessageError(f"packet of kind {kind >> 4} is not expected")

    def _expect_answer(self) -> tuple[int, asyncio.Future[bytes]]:
        """A packet identifier that is free (2.3.1), and what its acknowledgement will complete."""
        if self._problem:
            raise BrokerError(self._problem)
        if len(self._unanswered) >= _MOST_UNANSWERED:
            raise BrokerError(f"{len(self._unanswered)} messages wait for the broker's acknowledgement, the limit")
        while True:
            self._last_identifier = self._last_identifier % 65_535 + 1
            if self._last_identifier not in self._unanswered:
                break
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._unanswered[self._last_identifier] = answer
        return self._last_identifier, answer

    async def _ask(self, packet: bytes, identifier: int, answer: asyncio.Future[bytes]) -> bytes:
        try:
            self._send(packet)
            with anyio.fail_after(_ANSWER_TIMEOUT_S):
                return await answer
        except TimeoutError as error:
            raise BrokerError("no acknowledgement within 5 s") from error
        finally:
            del self._unanswered[identifier]

    def _flush(self) -> None:
        """One write for all that was handled: a write costs more than to handle a message."""
        if self._flush_alarm:
            self._flush_alarm.cancel()
            self._flush_alarm = None
        handled, self._handled = self._handled, []
        if handled and not self._problem:
            self._send(b"".join(map(packets.puback_packet, handled)))

    def _send(self, data: bytes) -> None:
        if self._transport is None or self._problem:
            raise BrokerError(self._problem or "not connected")
        self._has_sent = True
        self._transport.write(data)

    def _tick(self) -> None:
        """Twice in a keep-alive interval (3.1.2.10): a ping where nothing was said or heard, or the end of patience."""
        if self._unheard_ticks >= _UNHEARD_TICKS:
            self.abandon("the broker is silent")
            return
        if self._unheard_ticks or not self._has_sent:
            self._send(packets.PINGREQ_PACKET)
        self._has_sent = False
        self._unheard_ticks += 1
        self._alarm = asyncio.get_running_loop().call_later(self._tick_s, self._tick)

    def _end(self, problem: str) -> None:
        """The first problem is the one that everyone who waits is told."""
        if self._problem:
            return
        self._problem = problem
        for alarm in (self._alarm, self._flush_alarm):
            if alarm:
                alarm.cancel()
        if not self._welcome.done():
            self._welcome.set_exception(BrokerError(problem))
        for answer in self._unanswered.values():
            if not answer.done():
                answer.set_exception(BrokerError(problem))
        self._news.set()
