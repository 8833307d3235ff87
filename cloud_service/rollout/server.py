"""The rollout process: one link to the broker, the service behind it, and an ordered end."""

from __future__ import annotations

import asyncio
import logging
import signal

import anyio

from cloud_service.config import CloudSettings, RolloutSettings
from cloud_service.event_loop import run_on_event_loop
from cloud_service.metrics_listener import metrics_listener
from cloud_service.registry.director import Director
from cloud_service.registry.repository import open_repository
from cloud_service.registry.resigner import Resigner
from cloud_service.rollout.conductor import Conductor
from cloud_service.rollout.messenger import Messenger
from cloud_service.rollout.metrics import RolloutCollector
from cloud_service.rollout.service import RolloutService
from cloud_service.storage.engine import open_engine
from cloud_service.storage.rollout_pins import PinStore
from cloud_service.storage.rollout_reader import RolloutReader
from cloud_service.storage.rollout_store import RolloutStore
from cloud_service.storage.transactions import open_durable_engine
from shared.clock import Clock, SystemClock
from shared.mqtt import BrokerAddress, BrokerLink
from shared.secret_files import read_secret
from shared.topics import ALL_REPORTED

_log = logging.getLogger(__name__)


class RolloutProcess:
    """The parts, put together."""

    def __init__(self, settings: CloudSettings, clock: Clock) -> None:
        """Nothing is connected yet.

        Raises:
            ConfigurationError: the store's URL is none, or the broker's password file cannot be read.
            RegistryError: the repository is a bucket that cannot be opened here.
        """
        rollout = settings.rollout or RolloutSettings()
        url = settings.storage_url()
        self._engine = open_durable_engine(url)
        self._store = RolloutStore(self._engine)
        self._reading = open_engine(url, writes=False)
        reader = RolloutReader(self._reading)
        repository = open_repository(settings, clock)
        self._resigner = Resigner(repository)
        director, pins = Director(repository), PinStore(self._engine)
        self.service = RolloutService(
            self._store,
            pins,
            Conductor(self._store, pins, reader, clock),
            (
                Messenger(self._store, director, self._publish, clock),
                Messenger(pins, director, self._publish, clock),
            ),
            clock,
            interval_s=rollout.interval_ms / 1e3,
            kept_days=rollout.kept_days,
            link=lambda: self.link.statistics(),
        )
        self.link = BrokerLink(
            _broker_address(settings, rollout),
            rollout.client_id,
            clock,
            subscriptions=(ALL_REPORTED,),
            on_connect=self.service.hears_of_connection,
            on_message=self.service.take,
        )

        self.collector = RolloutCollector(reader.counts, self.service.statistics, self.link.statistics)

    async def run(self, stopped: asyncio.Event) -> None:
        """Conduct until `stopped`, and keep the repository's signatures fresh."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.link.run)
            tasks.start_soon(self.service.run)
            tasks.start_soon(self._resigner.run)
            await stopped.wait()
            tasks.cancel_scope.cancel()

    def close(self) -> None:
        """Give the store back."""
        self._store.close()
        self._reading.dispose()

    async def _publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        await self.link.publish(topic, payload, retain=retain)


def run_rollout(settings: CloudSettings) -> None:
    """Conduct rollouts until SIGTERM or SIGINT.

    Raises:
        ConfigurationError, RegistryError: it cannot start; the text says why.
    """
    rollout, process = settings.rollout or RolloutSettings(), RolloutProcess(settings, SystemClock())
    try:
        with metrics_listener("rollout", rollout.metrics_host, rollout.metrics_port, process.collector):
            run_on_event_loop(_run_until_stopped(process))
    finally:
        process.close()


async def _run_until_stopped(process: RolloutProcess) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    _log.info("rollout service ready")
    await process.run(stopped)
    _log.info("rollout service stopped")


def _broker_address(settings: CloudSettings, rollout: RolloutSettings) -> BrokerAddress:
    """The broker of all processes; the login is this one's own, as a user has one connection."""
    broker = settings.broker
    password = read_secret("rollout.password_file", rollout.password_file) if rollout.password_file else None
    return BrokerAddress(
        broker.host,
        broker.port,
        username=rollout.client_id if password else None,
        password=password,
        ca_file=str(broker.ca_file) if broker.ca_file else None,
    )
