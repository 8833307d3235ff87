"""The fleet service's process: broker in, store out, and an ordered end."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
from prometheus_client import CollectorRegistry, start_http_server

from cloud_service.config import BrokerSettings, CloudSettings, FleetSettings
from cloud_service.event_loop import run_on_event_loop
from cloud_service.fleet.announcer import Announcer
from cloud_service.fleet.gates import read_gates
from cloud_service.fleet.ingest import BrokerState, Ingest
from cloud_service.fleet.metrics import FleetCollector
from cloud_service.fleet.retention import retention_of
from cloud_service.storage.engine import open_engine
from cloud_service.storage.fleet_store import FleetStore
from cloud_service.watch.settings import WatchRules
from shared.clock import Clock, SystemClock
from shared.errors import ConfigurationError, StoreTaken
from shared.mqtt import BrokerAddress, BrokerLink
from shared.secret_files import read_secret
from shared.topics import ALL_LAST_WORDS, ALL_PRESENCE, ALL_TELEMETRY

_log = logging.getLogger(__name__)
_COLLECT_AFTER = (10_000, 10, 100)
"""Thresholds of Python's garbage collector. The book of a large fleet is a million objects that stay and lie in no
cycle: with Python's own, half of the time of booking would go into walking through all of them again."""


class FleetService:
    """One link to the broker, and the ingest behind it."""

    def __init__(self, settings: CloudSettings, store: FleetStore, clock: Clock) -> None:
        """Raises: ConfigurationError: the broker's password file, or a bundle that devices run, cannot be read."""
        self._address = broker_address(settings.broker)
        self.ingest = Ingest(
            store,
            clock,
            self._broker_state,
            commit_interval_s=settings.fleet.commit_interval_ms / 1e3,
            retention=retention_of(settings.fleet),
            rules=WatchRules(settings.watch.delta, settings.watch.period, settings.watch.drift_delta),
            gates=read_gates(settings.fleet.edge_bundles),
        )
        self.link = BrokerLink(
            self._address,
            settings.fleet.client_id,
            clock,
            subscriptions=(ALL_PRESENCE, ALL_TELEMETRY, ALL_LAST_WORDS),
            on_connect=self._hear_of_connection,
            on_message=self.ingest.take,
        )
        self.announcer = Announcer(store, self.link.publish, clock, interval_s=settings.fleet.commit_interval_ms / 1e3)

    async def run(self, stopped: asyncio.Event) -> None:
        """Ingest until `stopped`; what has been heard by then is booked.

        Raises:
            StorageError: the store cannot be opened, or another fleet service has taken it.
        """
        await self.ingest.open()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.link.run)
            tasks.start_soon(self._ingest_until_taken, stopped)
            tasks.start_soon(self.announcer.run)
            await stopped.wait()
            tasks.cancel_scope.cancel()
        await self.ingest.commit()

    async def _hear_of_connection(self) -> None:
        await self.announcer.hears_of_connection()

    async def _ingest_until_taken(self, stopped: asyncio.Event) -> None:
        try:
            await self.ingest.run()
        except StoreTaken:
            stopped.set()  # the last commit, above, meets the same error and carries it out

    def _broker_state(self) -> BrokerState:
        told = self.link.statistics()
        return BrokerState(f"{self._address.host}:{self._address.port}", told.connected, told.last_error)


def run_fleet(settings: CloudSettings) -> None:
    """Ingest telemetry until SIGTERM or SIGINT.

    Raises:
        ConfigurationError, StorageError: it cannot start or go on; the text says why.
    """
    gc.set_threshold(*_COLLECT_AFTER)
    engine = open_engine(settings.storage_url(), writes=True)
    store = FleetStore(engine)
    service = FleetService(settings, store, SystemClock())
    try:
        run_on_event_loop(_run_until_stopped(service, settings.fleet))
    finally:
        store.close()


def broker_address(settings: BrokerSettings) -> BrokerAddress:
    """Where the broker is, and the fleet service's login there.

    Raises:
        ConfigurationError: the password file cannot be read.
    """
    password = read_secret("broker.password_file", settings.password_file) if settings.password_file else None
    return BrokerAddress(
        settings.host,
        settings.port,
        username=settings.username,
        password=password,
        ca_file=str(settings.ca_file) if settings.ca_file else None,
    )


async def _run_until_stopped(service: FleetService, settings: FleetSettings) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    with _metrics(service, settings) as port:
        _log.info("fleet service ready, metrics on %s:%d", settings.metrics_host, port)
        await service.run(stopped)
    _log.info("fleet service stopped")


@contextmanager
def _metrics(service: FleetService, settings: FleetSettings) -> Iterator[int]:
    registry = CollectorRegistry()
    registry.register(FleetCollector(service.ingest.statistics, service.link.statistics))
    try:
        server, _ = start_http_server(settings.metrics_port, settings.metrics_host, registry)
    except OSError as error:
        address = f"{settings.metrics_host}:{settings.metrics_port}"
        raise ConfigurationError(f"the fleet service's metrics cannot listen on {address}: {error}") from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
