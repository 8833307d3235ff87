"""The device's link to the fleet over MQTT: presence and counts go out, policies of its ring come in."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import anyio

from edge_agent.config import BrokerSettings
from edge_agent.lanes import Lane, Lanes
from edge_agent.reporting import Reporter
from edge_agent.state.keeper import StateKeeper
from shared import topics
from shared.clock import Clock
from shared.errors import BrokerError
from shared.mqtt import BrokerAddress, BrokerLink, Message
from shared.secret_files import read_secret
from shared.tracing import TRACING, UNTRACED, Kind

_log = logging.getLogger(__name__)
_SAVE_PATIENCE_S = 5.0


class LinkGuest(Protocol):
    """Who shares the link, as a broker knows a device by one connection."""

    async def reconnected(self) -> None:
        """The broker is connected, for the first time or again."""
        ...

    async def hear(self, message: Message) -> None:
        """A message that is not for telemetry."""
        ...


class Telemetry:
    """Publishes presence and counts while `run` runs. Cumulative and retained, so a lost message loses nothing.

    At every connection the last words of series that have ended come first, of earlier boots and of models that gave
    way to others: whoever hears of the new series has heard of them. What still comes in for one is said again there.
    So is what a release counts that answers a share of the requests beside the active one.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        ring: str,
        reporter: Reporter,
        keeper: StateKeeper,
        lanes: Lanes,
        clock: Clock,
    ) -> None:
        """Raises: ConfigurationError: the password file cannot be read."""
        self._device_id = reporter.device_id
        self._reporter = reporter
        self._keeper = keeper
        self._clock = clock
        self._interval_s = settings.telemetry_interval_ms / 1e3
        self._ring = ring
        self._lanes = lanes
        self._said: dict[str, bytes] = {}
        self._guest: LinkGuest | None = None
        self._link = BrokerLink(
            broker_address(self._device_id, settings),
            self._device_id,
            clock,
            will=Message(topics.presence(self._device_id), reporter.presence(online=False)),
            subscriptions=tuple(self._policy_topics()),
            on_connect=self._introduce,
            on_message=self._hear,
        )

    @property
    def is_connected(self) -> bool:
        """Whether the broker is connected now."""
        return self._link.statistics().connected

    async def invite(self, guest: LinkGuest, topic_filters: Sequence[str]) -> None:
        """Let `guest` hear these topics too, over the same link. There is one guest."""
        self._guest = guest
        for topic_filter in topic_filters:
            await self._link.subscribe(topic_filter)

    async def publish(self, topic: str, payload: bytes, *, retain: bool, qos: int = 1) -> None:
        """For the guest.

        Raises:
            BrokerError: see `BrokerLink.publish`.
        """
        await self._link.publish(topic, payload, retain=retain, qos=qos)

    async def run(self) -> None:
        """Stay connected and report at every interval, until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._link.run)
            while True:
                await self._clock.sleep(self._interval_s)
                await self._try(self._report)

    async def follow(self, lane: Lane) -> None:
        """A model has taken another's place, or answers beside it: hear the policies for its gate, and tell of both.

        Those for a gate that ran before too: what came while it did not was left alone.
        """
        if lane.model.gate_digest:
            await self._link.subscribe(topics.policy(self._ring, lane.model.identity.name, lane.model.gate_digest))
        await self._try(self._report)

    async def farewell(self) -> None:
        """The last counts, and word that the device leaves on purpose; says nothing where no broker is connected."""
        await self._try(self._report)
        await self._try(lambda: self._publish_presence(online=False))

    async def _try(self, publish: Callable[[], Awaitable[None]]) -> None:
        if not self.is_connected:
            return
        try:
            await publish()
        except BrokerError as error:
            _log.warning("telemetry not sent, the next one says it all again: %s", error)

    async def _introduce(self) -> None:
        self._said = {}
        await self._say_last_words()
        await self._publish_presence(online=True)
        await self._report()
        if self._guest is not None:
            await self._guest.reconnected()

    async def _report(self) -> None:
        payloads: dict[str, bytes] = {}
        with TRACING.span("report telemetry", kind=Kind.PRODUCER) if TRACING.is_on else UNTRACED:
            with anyio.move_on_after(_SAVE_PATIENCE_S):
                payloads = await self._keeper.save()
            await self._say_last_words()
            for name, payload in (payloads or self._reporter.payloads()).items():
                await self._link.publish(topics.telemetry(self._device_id, name), payload, retain=True)

    async def _say_last_words(self) -> None:
        """Those that were not said on this connection."""
        for word in self._keeper.last_words:
            topic = topics.last_word(self._device_id, word.model, word.slot)
            if self._said.get(topic) != word.payload:
                await self._link.publish(topic, word.payload, retain=True)
                self._said[topic] = word.payload

    def _policy_topics(self) -> dict[str, list[Lane]]:
        """Of the gates that answer now; two releases of a model may have one gate."""
        lanes: dict[str, list[Lane]] = {}
        for lane in self._lanes.answering():
            if lane.model.gate_digest:
                topic = topics.policy(self._ring, lane.model.identity.name, lane.model.gate_digest)
                lanes.setdefault(topic, []).append(lane)
        return lanes

    async def _publish_presence(self, *, online: bool) -> None:
        await self._link.publish(topics.presence(self._device_id), self._reporter.presence(online=online), retain=True)

    async def _hear(self, message: Message) -> None:
        lanes = self._policy_topics().get(message.topic)
        if lanes is not None:
            for lane in lanes:
                lane.control.hear(message.payload)
        elif self._guest is not None:
            await self._guest.hear(message)


def broker_address(device_id: str, settings: BrokerSettings) -> BrokerAddress:
    """Where the broker is, and the device's login there.

    Raises:
        ConfigurationError: the password file cannot be read.
    """
    password = read_secret("broker.password_file", settings.password_file) if settings.password_file else None
    return BrokerAddress(
        settings.host,
        settings.port,
        username=device_id if password else None,
        password=password,
        ca_file=str(settings.ca_file) if settings.ca_file else None,
    )
