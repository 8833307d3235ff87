"""What the device tells the fleet over MQTT: that it is there, and each model's cumulative counts."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping

import anyio

from edge_agent.config import BrokerSettings
from edge_agent.escalation.breaker import BreakerState
from edge_agent.pipeline import Lane
from shared import __version__, topics
from shared.clock import Clock
from shared.codec import encode_presence, encode_telemetry
from shared.errors import BrokerError
from shared.mqtt import BrokerAddress, BrokerLink, Message
from shared.secret_files import read_secret
from shared.types import GateReport, ModelTelemetry, Presence

_log = logging.getLogger(__name__)


class Telemetry:
    """Publishes presence and counts while `run` runs. Cumulative and retained, so a lost message loses nothing."""

    def __init__(
        self,
        device_id: str,
        boot_id: str,
        settings: BrokerSettings,
        lanes: Mapping[str, Lane],
        link_state: Callable[[], BreakerState | None],
        clock: Clock,
    ) -> None:
        """Raises: ConfigurationError: the password file cannot be read."""
        self._device_id = device_id
        self._boot_id = boot_id
        self._lanes = lanes
        self._link_state = link_state
        self._clock = clock
        self._interval_s = settings.telemetry_interval_ms / 1e3
        self._began_s = clock.monotonic_s()
        self._sequence = 0
        self._link = BrokerLink(
            broker_address(device_id, settings),
            device_id,
            clock,
            will=Message(topics.presence(device_id), encode_presence(self._presence(online=False))),
            on_connect=self._introduce,
        )

    @property
    def is_connected(self) -> bool:
        """Whether the broker is connected now."""
        return self._link.statistics().connected

    async def run(self) -> None:
        """Stay connected and report at every interval, until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._link.run)
            while True:
                await self._clock.sleep(self._interval_s)
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
        await self._publish_presence(online=True)
        await self._report()

    async def _report(self) -> None:
        for name, lane in self._lanes.items():
            topic = topics.telemetry(self._device_id, name)
            await self._link.publish(topic, encode_telemetry(self._telemetry(lane)), retain=True)

    async def _publish_presence(self, *, online: bool) -> None:
        topic = topics.presence(self._device_id)
        await self._link.publish(topic, encode_presence(self._presence(online=online)), retain=True)

    def _presence(self, *, online: bool) -> Presence:
        return Presence(self._device_id, self._boot_id, online, self._unix_ms(), __version__)

    def _telemetry(self, lane: Lane) -> ModelTelemetry:
        snapshot = lane.ledger.snapshot()
        state = self._link_state()
        self._sequence += 1
        return ModelTelemetry(
            device_id=self._device_id,
            boot_id=self._boot_id,
            sequence=self._sequence,
            sent_at_unix_ms=self._unix_ms(),
            uptime_ms=round((self._clock.monotonic_s() - self._began_s) * 1e3),
            model=lane.model.identity,
            variant=lane.model.variant,
            counters=snapshot.counters,
            latency_by_outcome=snapshot.latency_by_outcome,
            reasons=snapshot.reasons,
            gate=GateReport(lane.model.gate_score, lane.model.gate_threshold),
            cloud_link=state.value if state else "none",
        )

    def _unix_ms(self) -> int:
        return round(self._clock.unix_s() * 1e3)


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
