"""The delivery process: blocks over MQTT on a connection of its own, the same files over HTTP, and an ordered end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import anyio
import uvicorn

from cloud_service.config import CloudSettings, DeliverySettings
from cloud_service.delivery.bucket_files import BucketFiles
from cloud_service.delivery.fair_queue import DeliveryLimits
from cloud_service.delivery.files import FolderFiles, RepositoryFiles
from cloud_service.delivery.http_app import make_http_app
from cloud_service.delivery.metrics import DeliveryCollector
from cloud_service.delivery.publisher import BlockPublisher
from cloud_service.event_loop import run_on_event_loop
from cloud_service.gateway.authentication import TokenAuthenticator, TrustedLoopback
from cloud_service.metrics_listener import metrics_listener
from cloud_service.registry.object_store import open_objects
from shared.clock import Clock, SystemClock
from shared.errors import ConfigurationError, RegistryError
from shared.mqtt import BrokerAddress, BrokerLink
from shared.secret_files import read_secret
from shared.update.names import METADATA

_log = logging.getLogger(__name__)
_LAST_ANSWERS_S = 3
_BUCKET_PATIENCE = timedelta(seconds=10)


class DeliveryService:
    """A publisher of blocks and its link."""

    def __init__(self, settings: CloudSettings, files: RepositoryFiles, clock: Clock) -> None:
        """Raises: ConfigurationError: the password file or the certificate authority cannot be read."""
        delivery = settings.delivery or DeliverySettings()
        self.publisher = BlockPublisher(delivery.publisher, files, self._publish, clock, limits_of(delivery))
        self.link = BrokerLink(
            _broker_address(settings, delivery),
            delivery.publisher,
            clock,
            will=self.publisher.will,
            subscriptions=self.publisher.subscriptions,
            on_connect=self.publisher.introduce,
            on_message=self.publisher.hear,
        )

    async def run(self) -> None:
        """Serve until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.link.run)
            tasks.start_soon(self.publisher.run)

    async def _publish(self, topic: str, payload: bytes, *, retain: bool, qos: int = 1) -> None:
        await self.link.publish(topic, payload, retain=retain, qos=qos)


def limits_of(settings: DeliverySettings) -> DeliveryLimits:
    """The publisher's bounds, as configured."""
    return DeliveryLimits(
        settings.total_bytes_s,
        settings.device_bytes_s,
        settings.block_bytes,
        settings.waiting_ranges,
        settings.device_waiting_ranges,
    )


def run_delivery(settings: CloudSettings) -> None:
    """Serve the repository until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: there is no repository, it cannot listen, a password or certificate cannot be used, or
            obstore is not installed for a bucket.
    """
    delivery, clock = settings.delivery or DeliverySettings(), SystemClock()
    files = _open_files(settings.served_repository(), clock)
    service = DeliveryService(settings, files, clock)
    collector = DeliveryCollector(service.publisher.statistics, service.link.statistics)
    with metrics_listener("delivery", delivery.metrics_host, delivery.metrics_port, collector), _bound(delivery) as it:
        run_on_event_loop(_serve_until_stopped(service, _http_server(delivery, files, clock), it))


def _open_files(place: Path | str, clock: Clock) -> RepositoryFiles:
    if isinstance(place, str):
        return _open_bucket(place, clock)
    if not place.is_dir():
        raise ConfigurationError(
            f"delivery.repository: {place} is no folder; `cloud-service keys init` and `publish` fill it"
        )
    return FolderFiles(place)


def _open_bucket(url: str, clock: Clock) -> BucketFiles:
    """A bucket that cannot be reached now may be later: that is in the log, and devices are told to come again."""
    try:
        files = BucketFiles(open_objects(url, _BUCKET_PATIENCE), clock, url)
    except RegistryError as error:
        raise ConfigurationError(str(error)) from error
    try:
        files.read(f"{METADATA}/timestamp.json", 0, 1)
    except FileNotFoundError:
        _log.warning("%s holds no repository yet; `cloud-service keys init` and `publish` fill it", url)
    except OSError as error:
        _log.error("%s", error)
    return files


def _http_server(delivery: DeliverySettings, files: RepositoryFiles, clock: Clock) -> _Server:
    credentials = delivery.credentials
    authenticator = TokenAuthenticator(credentials, clock) if credentials else TrustedLoopback()
    tls = delivery.tls
    if tls:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(tls.certificate, tls.key)
        except OSError as error:
            raise ConfigurationError(
                f"delivery.tls: {tls.certificate} with {tls.key} cannot be used: {error}"
            ) from error
    return _Server(
        uvicorn.Config(
            make_http_app(files, authenticator),
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=delivery.http_connections,
            ssl_certfile=tls.certificate if tls else None,
            ssl_keyfile=tls.key if tls else None,
            timeout_graceful_shutdown=_LAST_ANSWERS_S,
        )
    )


async def _serve_until_stopped(service: DeliveryService, server: _Server, listener: socket.socket) -> None:
    def stop() -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    host, port = listener.getsockname()[:2]
    _log.info("delivery ready on %s:%d", f"[{host}]" if ":" in host else host, port)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service.run)
        await server.serve(sockets=[listener])
        await service.publisher.farewell()
        tasks.cancel_scope.cancel()
    _log.info("delivery stopped")


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers: the publisher says farewell after it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See `uvicorn.Server`."""
        yield


def _broker_address(settings: CloudSettings, delivery: DeliverySettings) -> BrokerAddress:
    """The broker of all processes; the login is this publisher's own, as a user has one connection."""
    broker = settings.broker
    password = read_secret("delivery.password_file", delivery.password_file) if delivery.password_file else None
    return BrokerAddress(
        broker.host,
        broker.port,
        username=delivery.publisher if password else None,
        password=password,
        ca_file=str(broker.ca_file) if broker.ca_file else None,
    )


@contextlib.contextmanager
def _bound(settings: DeliverySettings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
        raise ConfigurationError(
            f"delivery cannot listen on {settings.host}:{settings.port}: {error.strerror}"
        ) from error
    with listener:
        yield listener
