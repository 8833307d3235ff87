"""The one adapter for MQTT: a paho client for each connection, driven by the event loop instead of paho's own.

paho's loop functions are called when the socket can be read or written. Whatever arrived since the user last asked is
handed over together, so that no task, lock or queue is woken for each message.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType

import anyio
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from shared.errors import BrokerError

_QOS = 1
_ANSWER_TIMEOUT_S = 5.0
_TICK_S = 1.0
_MOST_UNACKNOWLEDGED = 1000
_MOST_ARRIVED = 2000
"""More than a broker's window of messages in flight (mosquitto as shipped: 1,000): only one without a window gets here.
While reading pauses, no ping is heard either: who handles nothing for a keep-alive interval is connected anew."""
_MOST_ARRIVED_BYTES = 16 << 20
"""Whoever sends large messages faster than they are handled waits, before they fill the memory."""
_MOST_READ_AT_ONCE = 200
_PROBLEMS = {
    MQTTErrorCode.MQTT_ERR_CONN_LOST: "the connection is lost",
    MQTTErrorCode.MQTT_ERR_PROTOCOL: "the broker does not speak MQTT 3.1.1",
}


@dataclass(frozen=True)
class BrokerAddress:
    """Where the broker is and who we are there. `ca_file` set means TLS."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None
    ca_file: str | None = None
    keepalive_s: int = 20


@dataclass(frozen=True)
class Message:
    """One message; `retained` says that it was published before we subscribed."""

    topic: str
    payload: bytes
    retained: bool = False


@dataclass(frozen=True)
class Arrival:
    """A message as it came, and what its acknowledgement needs."""

    message: Message
    identifier: int
    qos: int


async def open_connection(
    address: BrokerAddress, client_id: str, tls: ssl.SSLContext | None, will: Message | None = None
) -> Connection:
    """Connect and be taken by the broker, within 5 s.

    Raises:
        BrokerError: it is not there, or refuses us.
    """
    connection = Connection(address, client_id, tls, will)
    try:
        with anyio.fail_after(_ANSWER_TIMEOUT_S):
            await connection.open()
    except TimeoutError as error:
        connection.close()
        raise BrokerError("no answer within 5 s") from error
    except BaseException:
        connection.close()
        raise
    return connection


class Connection:
    """Made by `open_connection`; leave it as a context, or by `close`. Nothing outlives it."""

    def __init__(
        self, address: BrokerAddress, client_id: str, tls: ssl.SSLContext | None, will: Message | None
    ) -> None:
        self._address = address
        self._client = _make_client(address, client_id, tls, will)
        self._client.on_connect = self._hear_welcome
        self._client.on_subscribe = self._hear_subscribed
        self._client.on_publish = self._hear_published
        self._client.on_message = self._hear_message
        self._loop = asyncio.get_running_loop()
        self._file_number = -1
        self._tick_s = min(_TICK_S, address.keepalive_s / 4)
        self._alarm: asyncio.TimerHandle | None = None
        self._opening = threading.Lock()
        self._is_open = self._is_given_up = self._is_paused = self._is_blocked = self._is_writing = False
        self._welcome: asyncio.Future[None] = self._loop.create_future()
        self._unanswered: dict[int, asyncio.Future[None]] = {}
        self._arrived: list[Arrival] = []
        self._arrived_bytes = 0
        self._news = asyncio.Event()
        self._problem = ""

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def open(self) -> None:
        """Say CONNECT and wait until we are taken. paho resolves, connects and shakes hands in a thread, as it blocks.

        Raises:
            BrokerError: the broker is not there, refuses us, or hangs up.
        """
        try:
            await anyio.to_thread.run_sync(self._open_socket, abandon_on_cancel=True)
        except (OSError, ValueError) as error:  # ValueError: a host that is none
            raise BrokerError(str(error)) from error
        self._watch()
        await self._welcome

    async def subscribe(self, topic_filter: str) -> None:
        """Raises: BrokerError: refused, or no answer within 5 s."""
        self._check()
        code, identifier = self._client.subscribe(topic_filter, _QOS)
        try:
            await self._answer(code, identifier or 0)
        except BrokerError as error:
            raise BrokerError(f"the subscription to {topic_filter}: {error}") from error

    async def publish(self, topic: str, payload: bytes, *, retain: bool, qos: int = _QOS) -> None:
        """With QoS 1, until acknowledged; with QoS 0, until the socket has taken it.

        Raises:
            BrokerError: the connection is lost, or that did not come within 5 s.
        """
        self._check()
        if qos == 0 and not self._client.want_write():
            told = self._publish_at_once(topic, payload, retain)
            self._check()
            if not self._client.want_write():
                return
        else:
            told = self._client.publish(topic, payload, qos, retain)
        await self._answer(told.rc, told.mid)

    async def next_batch(self) -> Sequence[Arrival]:
        """All that has arrived, at least one message; `acknowledge` it once it is handled.

        Raises:
            BrokerError: the connection is lost.
        """
        while not self._arrived:
            self._check()
            self._news.clear()
            await self._news.wait()
        batch, self._arrived, self._arrived_bytes = self._arrived, [], 0
        if self._is_paused and not self._problem:
            self._is_paused = False
            self._loop.add_reader(self._file_number, self._read)
            self._loop.call_soon(self._read)  # TLS may hold bytes that the socket no longer tells of
        return batch

    def acknowledge(self, batch: Iterable[Arrival]) -> None:
        """Tell the broker that these need not be sent again."""
        if self._problem:
            return
        for each in batch:
            self._client.ack(each.identifier, each.qos)

    def close(self) -> None:
        """Say DISCONNECT, so that the broker publishes no will, and hang up."""
        with self._opening:
            self._is_given_up = True
        if self._is_open and not self._problem:
            self._client.disconnect()
            self._client.loop_write()
        self._end("closed")

    def _publish_at_once(self, topic: str, payload: bytes, retain: bool) -> paho.MQTTMessageInfo:
        """Nearly always the socket takes it: nobody has to wait, nor to be told, which costs more than the message."""
        self._is_writing, self._client.on_publish = True, None
        try:
            told = self._client.publish(topic, payload, 0, retain)
            self._write()
        finally:
            self._is_writing, self._client.on_publish = False, self._hear_published
        return told

    def _open_socket(self) -> None:
        """In a thread. Who gave up meanwhile has gone, so the thread itself leaves the broker again."""
        self._client.connect(self._address.host, self._address.port, self._address.keepalive_s)
        with self._opening:
            self._is_open = not self._is_given_up
        if not self._is_open:
            self._client.disconnect()

    def _watch(self) -> None:
        """From here on the event loop drives the client."""
        opened = self._client.socket()
        if not isinstance(opened, socket.socket):
            raise BrokerError(_PROBLEMS[MQTTErrorCode.MQTT_ERR_CONN_LOST])
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file_number = opened.fileno()
        self._client.on_socket_close = lambda *_: self._unwatch()
        self._client.on_socket_register_write = lambda *_: self._write_soon()
        self._client.on_socket_unregister_write = lambda *_: self._stop_writing()
        self._loop.add_reader(self._file_number, self._read)
        self._write_soon()
        self._alarm = self._loop.call_later(self._tick_s, self._tick)

    def _unwatch(self) -> None:
        self._loop.remove_reader(self._file_number)
        self._loop.remove_writer(self._file_number)

    def _stop_writing(self) -> None:
        if self._is_blocked:
            self._is_blocked = False
            self._loop.remove_writer(self._file_number)

    def _read(self) -> None:
        """A packet; and with TLS all that is deciphered already, of which the socket no longer tells."""
        opened = self._client.socket()
        for _ in range(_MOST_READ_AT_ONCE):
            if self._is_paused or self._problem:
                return
            self._read_packet()
            if not (isinstance(opened, ssl.SSLSocket) and not self._problem and opened.pending()):
                return
        self._loop.call_soon(self._read)

    def _read_packet(self) -> None:
        try:
            self._look_after(self._client.loop_read())
        except Exception as error:  # noqa: BLE001 - whatever paho makes of a malformed packet
            self._end(f"{_PROBLEMS[MQTTErrorCode.MQTT_ERR_PROTOCOL]}: {error!r}")
        is_full = len(self._arrived) >= _MOST_ARRIVED or self._arrived_bytes >= _MOST_ARRIVED_BYTES
        if is_full and not self._problem:
            self._is_paused = True
            self._loop.remove_reader(self._file_number)

    def _write_soon(self) -> None:
        """Without asking the socket first, as it can nearly always be written."""
        if not self._is_writing:
            self._loop.call_soon(self._write)

    def _write(self) -> None:
        self._look_after(self._client.loop_write())
        if self._client.want_write() and not self._problem and not self._is_blocked:
            self._is_blocked = True
            self._loop.add_writer(self._file_number, self._write)

    def _tick(self) -> None:
        """paho sends the pings, and closes the socket where none is answered within the keep-alive interval."""
        self._client.loop_misc()
        if self._client.socket() is None:
            self._end("the broker is silent")
        else:
            self._alarm = self._loop.call_later(self._tick_s, self._tick)

    def _look_after(self, code: MQTTErrorCode) -> None:
        if code or self._client.socket() is None:
            self._end(_PROBLEMS.get(code, paho.error_string(code)))

    async def _answer(self, code: MQTTErrorCode, identifier: int) -> None:
        if code == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            raise BrokerError(f"{_MOST_UNACKNOWLEDGED} messages wait for the broker's acknowledgement, the limit")
        if code:
            raise BrokerError(paho.error_string(code))
        answer = self._unanswered[identifier] = self._loop.create_future()
        try:
            with anyio.fail_after(_ANSWER_TIMEOUT_S):
                await answer
        except TimeoutError as error:
            raise BrokerError("no acknowledgement within 5 s") from error
        finally:
            self._unanswered.pop(identifier, None)

    def _check(self) -> None:
        if self._problem:
            raise BrokerError(self._problem)

    def _end(self, problem: str) -> None:
        """The first problem is the one that everyone who waits is told."""
        if self._problem:
            return
        self._problem = problem
        if self._alarm:
            self._alarm.cancel()
        self._drop_socket()
        for answer in (self._welcome, *self._unanswered.values()):
            _settle(answer, problem)
        if self._welcome.done() and not self._welcome.cancelled():
            self._welcome.exception()  # whoever gave up before does not ask for it
        self._news.set()

    def _drop_socket(self) -> None:
        """Where paho has not closed it: its last words do not get through, or it stumbled over a packet."""
        opened = self._client.socket()
        if self._file_number < 0 or not isinstance(opened, socket.socket):
            return
        self._client.on_socket_close = None
        self._client.on_socket_register_write = None
        self._client.on_socket_unregister_write = None
        self._unwatch()
        opened.close()

    def _hear_welcome(
        self, client: paho.Client, data: object, flags: paho.ConnectFlags, reason: ReasonCode, properties: object
    ) -> None:
        _settle(self._welcome, f"it refuses us: {reason}" if reason.is_failure else "")

    def _hear_subscribed(
        self, client: paho.Client, data: object, identifier: int, reasons: list[ReasonCode], properties: object
    ) -> None:
        self._hear_answer(identifier, "the broker refuses it" if any(each.is_failure for each in reasons) else "")

    def _hear_published(
        self, client: paho.Client, data: object, identifier: int, reason: ReasonCode, properties: Properties
    ) -> None:
        self._hear_answer(identifier, "")

    def _hear_answer(self, identifier: int, problem: str) -> None:
        answer = self._unanswered.get(identifier)
        if answer:
            _settle(answer, problem)

    def _hear_message(self, client: paho.Client, data: object, message: paho.MQTTMessage) -> None:
        heard = Message(message.topic, bytes(message.payload), message.retain)
        self._arrived.append(Arrival(heard, message.mid, message.qos))
        self._arrived_bytes += len(heard.payload)
        self._news.set()


def _settle(answer: asyncio.Future[None], problem: str) -> None:
    if answer.done():
        return
    if problem:
        answer.set_exception(BrokerError(problem))
    else:
        answer.set_result(None)


def _make_client(
    address: BrokerAddress, client_id: str, tls: ssl.SSLContext | None, will: Message | None
) -> paho.Client:
    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv311, reconnect_on_failure=False, manual_ack=True
    )
    client.connect_timeout = _ANSWER_TIMEOUT_S
    client.max_inflight_messages_set(0)
    client.max_queued_messages_set(_MOST_UNACKNOWLEDGED)
    if address.username is not None:
        client.username_pw_set(address.username, address.password)
    if tls:
        client.tls_set_context(tls)
    if will:
        client.will_set(will.topic, will.payload, _QOS, retain=True)
    return client
