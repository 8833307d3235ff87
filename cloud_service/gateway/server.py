"""The gateway's process: loads the models, listens, and shuts down in order."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Callable, Sequence
from functools import partial

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from cloud_service.config import CloudSettings, GatewaySettings
from cloud_service.event_loop import run_on_event_loop
from cloud_service.gateway.authentication import Authenticator, TokenAuthenticator, TrustedLoopback
from cloud_service.gateway.bundle_watch import BundleWatch
from cloud_service.gateway.inference import InferenceDesk, ServedModel
from cloud_service.gateway.metrics import GatewayMetrics, RecordingMetrics
from cloud_service.gateway.recording import NoRecorder, RecordingLimits, StoreRecorder
from cloud_service.gateway.service import SERVICE, InferenceService
from cloud_service.serving.batcher import Batcher
from cloud_service.serving.model import FullModel, load_model
from cloud_service.status_page import StatusPage
from cloud_service.storage.case_store import CaseStore
from cloud_service.storage.transactions import open_durable_engine
from shared.clock import Clock, SystemClock
from shared.errors import ConfigurationError, UnknownModel
from shared.types import ModelIdentity

_log = logging.getLogger(__name__)
_HEALTH_SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_CLIENT_PINGS_AT_MOST_EVERY_MS = 5_000
_IDLE_CONNECTION_MS = 1_800_000


class Gateway:
    """One gRPC server with its models and figures. Use on a running event loop."""

    def __init__(
        self,
        settings: GatewaySettings,
        models: Sequence[FullModel],
        clock: Clock,
        *,
        recording: Callable[[RecordingMetrics], StoreRecorder] | None = None,
    ) -> None:
        """`recording` makes what keeps comparisons and true labels; without it nothing is kept.

        Raises:
            ConfigurationError: two models have one name, or the credentials cannot be read.
        """
        names = [model.identity.name for model in models]
        if len(set(names)) < len(names):
            raise ConfigurationError("gateway.models: two bundles have the same model name; serve one of them")
        self.metrics = GatewayMetrics()
        self.port = 0
        self.is_serving = False
        self._settings = settings
        authenticator = _authenticator(settings, clock)
        self._served = {model.identity.name: self._serve(model, clock) for model in models}
        desk = InferenceDesk(
            self._served,
            clock,
            idempotency_entries=settings.idempotency_entries,
            idempotency_ttl_s=settings.idempotency_ttl_ms / 1e3,
        )
        self._recorder = recording and recording(self.metrics.recording)
        self._service = InferenceService(
            desk, authenticator, self.metrics, self._recorder or NoRecorder(), settings.default_deadline_ms / 1e3
        )
        self._health = health_aio.HealthServicer()
        self._server = grpc.aio.server(
            options=list(_server_options(settings).items()), maximum_concurrent_rpcs=settings.max_concurrent_rpcs
        )

    async def start(self) -> None:
        """Listen, and say that we serve.

        Raises:
            ConfigurationError: the address is taken or not ours, or the certificate cannot be read.
        """
        self._service.register(self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((SERVICE, _HEALTH_SERVICE, reflection.SERVICE_NAME), self._server)
        self.port = _bind(self._server, self._settings)
        if self._recorder:
            self._recorder.start()
        await self._server.start()
        for name in ("", SERVICE):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self.is_serving = True

    async def stop(self) -> None:
        """Say that we stop, take no more calls, let those inside end within `drain_ms`, cancel the rest, close.

        What was recorded is written last.
        """
        self.is_serving = False
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self._settings.drain_ms / 1e3)
        for served in self._served.values():
            served.batcher.close()
        if self._recorder:
            await asyncio.to_thread(self._recorder.stop)

    def swap(self, model: FullModel) -> None:
        """From the next request on `model` answers in place of the one of its name.

        Requests that wait or are being computed end on the model that they came to, which is then freed.

        Raises:
            UnknownModel: none of its name is served.
        """
        before = self._served.get(model.identity.name)
        if before is None:
            raise UnknownModel(f"model {model.identity.name!r} is not served here, so there is nothing to exchange")
        before.batcher.swap(model.backend)
        self._served[model.identity.name] = ServedModel(model, before.batcher)
        old = before.model
        self.metrics.swapped(old.identity, old.backend.provider, model.identity, model.backend.provider)

    def served(self, name: str) -> ModelIdentity:
        """Which model answers under `name`."""
        return self._served[name].model.identity

    def _serve(self, model: FullModel, clock: Clock) -> ServedModel:
        observer = self.metrics.serve(model.identity, model.backend.provider, lambda: batcher.statistics().queued)
        batcher = Batcher(
            model.identity.name,
            model.backend,
            clock,
            observer,
            max_batch=self._settings.max_batch,
            max_queued=self._settings.max_queued,
        )
        return ServedModel(model, batcher)


def run_gateway(settings: CloudSettings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigurationError, BundleError, EngineError: it cannot start; the text says why.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to look at again
    if not settings.gateway.models:
        raise ConfigurationError("gateway.models is empty: name at least one full model's bundle")
    models = [load_model(model) for model in settings.gateway.models]
    gc.freeze()  # what is loaded now stays: garbage collection need not look at it again and again
    run_on_event_loop(_serve_until_stopped(settings, models))


async def _serve_until_stopped(configured: CloudSettings, models: list[FullModel]) -> None:
    settings, clock = configured.gateway, SystemClock()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    store = _case_store(configured)
    recording = partial(_recorder, configured, store, clock) if store else None
    gateway = Gateway(settings, models, clock, recording=recording)
    page = StatusPage(
        settings.metrics_host, settings.metrics_port, gateway.metrics.registry, lambda: gateway.is_serving
    )
    page.start()
    names = [model.identity.name for model in models]
    watch = BundleWatch(gateway, settings.models, names, clock, settings.watch_bundles_ms / 1e3)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, watch.look_now)
    watching = asyncio.create_task(watch.run())
    try:
        await gateway.start()
        _log.info(
            "gateway ready on %s:%d, metrics on %s:%d, serving %s",
            settings.host,
            gateway.port,
            settings.metrics_host,
            page.port,
            ", ".join(f"{m.identity.name} {m.identity.version} ({m.backend.provider})" for m in models),
        )
        models.clear()  # what is swapped out must be freed
        await stopped.wait()
        _log.info("gateway draining")
    finally:
        watching.cancel()
        await gateway.stop()
        watch.close()
        page.stop()
    _log.info("gateway stopped")


def _case_store(settings: CloudSettings) -> CaseStore | None:
    """None where nothing is to be recorded, or where its folder cannot be made: a gateway answers without a store."""
    if not settings.gateway.record_comparisons:
        return None
    try:
        return CaseStore(open_durable_engine(settings.storage_url()))
    except OSError as error:
        _log.warning("comparisons and true labels are not kept: %s", error)
        return None


def _recorder(settings: CloudSettings, store: CaseStore, clock: Clock, metrics: RecordingMetrics) -> StoreRecorder:
    gateway = settings.gateway
    return StoreRecorder(
        store,
        clock,
        metrics,
        RecordingLimits(gateway.comparisons_queued, gateway.comparisons_kept_days, gateway.comparisons_kept_rows),
        keeps_text=settings.privacy.keep_text,
    )


def _authenticator(settings: GatewaySettings, clock: Clock) -> Authenticator:
    if settings.credentials is None:
        _log.warning("gateway.credentials is not set: whoever reaches the loopback interface is trusted")
        return TrustedLoopback()
    return TokenAuthenticator(settings.credentials, clock)


def _server_options(settings: GatewaySettings) -> dict[str, int]:
    """Suited to mobile clients: their pings are welcome, with or without calls; idle connections close in time."""
    return {
        "grpc.max_receive_message_length": settings.max_message_bytes,
        "grpc.max_send_message_length": settings.max_message_bytes,
        "grpc.http2.min_recv_ping_interval_without_data_ms": _CLIENT_PINGS_AT_MOST_EVERY_MS,
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.max_connection_idle_ms": _IDLE_CONNECTION_MS,
        "grpc.so_reuseport": 0,
    }


def _bind(server: grpc.aio.Server, settings: GatewaySettings) -> int:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"{host}:{settings.port}"
    try:
        if settings.tls is None:
            return int(server.add_insecure_port(address))
        pair = (settings.tls.key.read_bytes(), settings.tls.certificate.read_bytes())
        return int(server.add_secure_port(address, grpc.ssl_server_credentials([pair])))
    except OSError as error:
        raise ConfigurationError(f"gateway.tls: {error}") from error
    except RuntimeError as error:
        raise ConfigurationError(f"the gateway cannot listen on {address}: {error}") from error
