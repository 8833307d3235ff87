"""The link to the MQTT broker that comes back by itself.

Built on retained messages and QoS 1 of MQTT 3.1.1, so that any broker serves and nothing depends on a
session that the broker or this process keeps. What must survive a lost link is published again by the
`on_connect` of the user, who alone knows the newest state.
"""

from __future__ import annotations

import logging
import random
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import anyio

from shared.backoff import Backoff
from shared.clock import Clock
from shared.errors import BrokerError, ConfigurationError
from shared.mqtt_client import BrokerAddress, Connection, Message, open_connection

__all__ = ["BrokerAddress", "BrokerLink", "BrokerStatistics", "Message", "check_broker"]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BrokerStatistics:
    """Counts since the link was made."""

    connected: bool
    connections: int
    published: int
    received: int
    last_error: str


async def _nothing() -> None:
    return None


async def _ignore(message: Message) -> None:
    return None


class BrokerLink:
    """One client of the broker, connected for as long as `run` runs."""

    def __init__(
        self,
        address: BrokerAddress,
        client_id: str,
        clock: Clock,
        *,
        will: Message | None = None,
        subscriptions: Sequence[str] = (),
        on_connect: Callable[[], Awaitable[None]] = _nothing,
        on_message: Callable[[Message], Awaitable[None]] = _ignore,
        backoff: Backoff | None = None,
    ) -> None:
        """Raises: ConfigurationError: the address's `ca_file` cannot be read."""
        self._address = address
        self._client_id = client_id
        self._clock = clock
        self._will = will
        self._subscriptions = list(subscriptions)
        self._on_connect = on_connect
        self._on_message = on_message
        self._backoff = backoff or Backoff()
        self._tls_context = _tls_context(address)
        self._connection: Connection | None = None
        self._connections = 0
        self._published = 0
        self._received = 0
        self._last_error = ""

    async def run(self) -> None:
        """Stay connected until cancelled; every loss is followed by a new try with growing, jittered waits."""
        failures = 0
        while True:
            connected_before = self._connections
            try:
                await self._serve_one_connection()
            except BrokerError as error:
                self._last_error = str(error)
            failures = 1 if self._connections > connected_before else failures + 1
            delay_s = self._backoff.delay_s(failures, random.random)
            _log.warning(
                "broker %s:%d: %s; next try in %.1f s",
                self._address.host,
                self._address.port,
                self._last_error,
                delay_s,
            )
            await self._clock.sleep(delay_s)

    async def publish(self, topic: str, payload: bytes, *, retain: bool, qos: int = 1) -> None:
        """Publish with QoS 1 and wait for the broker's acknowledgement; with QoS 0, until it is sent.

        Raises:
            BrokerError: not connected, or not acknowledged or sent within 5 s. Nothing is queued.
        """
        if self._connection is None:
            raise BrokerError(f"the broker {self._address.host}:{self._address.port} is not connected")
        try:
            await self._connection.publish(topic, payload, retain=retain, qos=qos)
        except BrokerError as error:
            raise BrokerError(f"the broker did not take the message: {error}") from error
        self._published += 1

    async def subscribe(self, topic_filter: str) -> None:
        """Hear a further topic from now on, and at every connection to come.

        Where it is heard already, what is retained there comes once more (MQTT 3.1.1, 3.8.4). A broker that does not
        take it now is asked again at the next connection.
        """
        if topic_filter not in self._subscriptions:
            self._subscriptions.append(topic_filter)
        if self._connection is not None:
            try:
                await self._connection.subscribe(topic_filter)
            except BrokerError as error:
                _log.warning("not subscribed until the next connection: %s", error)

    def statistics(self) -> BrokerStatistics:
        """What the link has done so far."""
        return BrokerStatistics(
            self._connection is not None, self._connections, self._published, self._received, self._last_error
        )

    async def _serve_one_connection(self) -> None:
        """Messages are handled from the start: a broker may want them acknowledged before it answers a subscription."""
        ended_by: list[BrokerError] = []
        with await open_connection(self._address, self._client_id, self._tls_context, self._will) as connection:
            try:
                async with anyio.create_task_group() as tasks:

                    async def until_lost(work: Callable[[Connection], Awaitable[None]]) -> None:
                        try:
                            await work(connection)
                        except BrokerError as error:
                            ended_by.append(error)
                            tasks.cancel_scope.cancel()

                    tasks.start_soon(until_lost, self._introduce)
                    tasks.start_soon(until_lost, self._hand_over)
            finally:
                self._connection = None
        if ended_by:
            raise ended_by[0]

    async def _introduce(self, connection: Connection) -> None:
        for subscription in self._subscriptions:
            await connection.subscribe(subscription)
        self._connection = connection
        self._connections += 1
        _log.info("connected to broker %s:%d as %s", self._address.host, self._address.port, self._client_id)
        await self._on_connect()

    async def _hand_over(self, connection: Connection) -> None:
        """What was handled is acknowledged, a batch at a time: a slow user slows the broker down, and loses nothing."""
        while True:
            batch = await connection.next_batch()
            for each in batch:
                self._received += 1
                await self._on_message(each.message)
            connection.acknowledge(batch)


async def check_broker(address: BrokerAddress, client_id: str) -> None:
    """Connect once and leave again.

    Raises:
        BrokerError: it is not there, or refuses us.
        ConfigurationError: the address's `ca_file` cannot be read.
    """
    tls_context = _tls_context(address)
    try:
        with await open_connection(address, client_id, tls_context):
            return
    except BrokerError as error:
        raise BrokerError(f"the broker {address.host}:{address.port}: {error}") from error


def _tls_context(address: BrokerAddress) -> ssl.SSLContext | None:
    if address.ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=address.ca_file)
    except OSError as error:  # ssl.SSLError among them
        raise ConfigurationError(f"broker.ca_file: {address.ca_file} cannot be read: {error}") from error
