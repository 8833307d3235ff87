"""The gateway's process: loads the models, listens, and shuts down in order."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Sequence

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server

from cloud_service.config import CloudSettings, GatewaySettings
from cloud_service.gateway.credentials import Authenticator, TokenAuthenticator, TrustedLoopback
from cloud_service.gateway.inference import InferenceDesk, ServedModel
from cloud_service.gateway.metrics import GatewayMetrics, ModelMetrics
from cloud_service.gateway.service import InferenceService
from cloud_service.serving.batcher import Batcher
from cloud_service.serving.model import FullModel, load_model
from shared.clock import Clock, SystemClock
from shared.errors import ConfigurationError
from shared.pb import inference_pb2, inference_pb2_grpc

_log = logging.getLogger(__name__)
_SERVICE = inference_pb2.DESCRIPTOR.services_by_name["Inference"].full_name
_HEALTH_SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_CLIENT_PINGS_AT_MOST_EVERY_MS = 10_000


class Gateway:
    """One gRPC server with its models and figures. Use on a running event loop."""

    def __init__(self, settings: GatewaySettings, models: Sequence[FullModel], clock: Clock) -> None:
        self.metrics = GatewayMetrics()
        self._settings = settings
        self._served = {model.identity.name: self._serve(model, clock) for model in models}
        if len(self._served) < len(models):
            raise ConfigurationError("gateway.models: two bundles have the same model name; serve one of them")
        desk = InferenceDesk(
            self._served,
            clock,
            idempotency_entries=settings.idempotency_entries,
            idempotency_ttl_s=settings.idempotency_ttl_ms / 1e3,
        )
        self._service = InferenceService(
            desk, _authenticator(settings, clock), self.metrics, settings.default_deadline_ms / 1e3
        )
        self._health = health_aio.HealthServicer()
        self._server = grpc.aio.server(
            options=list(_server_options(settings).items()), maximum_concurrent_rpcs=settings.max_concurrent_rpcs
        )
        self.port = 0

    async def start(self) -> None:
        """Listen, and say that we serve.

        Raises:
            ConfigurationError: the address is taken or not ours, or the certificate cannot be read.
        """
        inference_pb2_grpc.add_InferenceServicer_to_server(self._service, self._server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            (_SERVICE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME),
            self._server,
        )
        address = f"{self._settings.host}:{self._settings.port}"
        try:
            self.port = _bind(self._server, address, self._settings)
        except RuntimeError as error:
            raise ConfigurationError(f"the gateway cannot listen on {address}: {error}") from error
        await self._server.start()
        for name in ("", _SERVICE):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self) -> None:
        """Say that we stop, take no more calls, let those inside end within `drain_ms`, and close."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self._settings.drain_ms / 1e3)
        for served in self._served.values():
            served.batcher.close()

    def _serve(self, model: FullModel, clock: Clock) -> ServedModel:
        name = model.identity.name
        batcher = Batcher(
            name,
            model.backend,
            clock,
            ModelMetrics(self.metrics, name),
            max_batch=self._settings.max_batch,
            max_queued=self._settings.max_queued,
        )
        self.metrics.queued.labels(name).set_function(lambda: batcher.statistics().queued)
        return ServedModel(model, batcher)


def run_gateway(settings: CloudSettings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigurationError, BundleError, EngineError: it cannot start; the text says why.
    """
    if not settings.gateway.models:
        raise ConfigurationError("gateway.models is empty: name at least one full model's bundle")
    models = [load_model(model) for model in settings.gateway.models]
    asyncio.run(_serve_until_stopped(settings.gateway, models))


async def _serve_until_stopped(settings: GatewaySettings, models: Sequence[FullModel]) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    gateway = Gateway(settings, models, SystemClock())
    await gateway.start()
    try:
        metrics_server, _ = start_http_server(settings.metrics_port, settings.metrics_host, gateway.metrics.registry)
    except OSError as error:
        await gateway.stop()
        raise ConfigurationError(
            f"the gateway's metrics cannot listen on {settings.metrics_host}:{settings.metrics_port}: {error}"
        ) from error
    _log.info(
        "gateway ready on %s:%d, metrics on %s:%d, serving %s",
        settings.host,
        gateway.port,
        settings.metrics_host,
        metrics_server.server_port,
        ", ".join(f"{m.identity.name} {m.identity.version} ({m.backend.provider})" for m in models),
    )
    await stopped.wait()
    _log.info("gateway draining")
    await gateway.stop()
    metrics_server.shutdown()
    _log.info("gateway stopped")


def _authenticator(settings: GatewaySettings, clock: Clock) -> Authenticator:
    if settings.credentials is None:
        _log.warning("gateway.credentials is not set: whoever reaches the loopback interface is trusted")
        return TrustedLoopback()
    return TokenAuthenticator(settings.credentials, clock)


def _server_options(settings: GatewaySettings) -> dict[str, int]:
    return {
        "grpc.max_receive_message_length": settings.max_message_bytes,
        "grpc.max_send_message_length": settings.max_message_bytes,
        "grpc.http2.min_recv_ping_interval_without_data_ms": _CLIENT_PINGS_AT_MOST_EVERY_MS,
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.so_reuseport": 0,
    }


def _bind(server: grpc.aio.Server, address: str, settings: GatewaySettings) -> int:
    if settings.tls is None:
        return int(server.add_insecure_port(address))
    try:
        pair = (settings.tls.key.read_bytes(), settings.tls.certificate.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"gateway.tls: {error}") from error
    return int(server.add_secure_port(address, grpc.ssl_server_credentials([pair])))
