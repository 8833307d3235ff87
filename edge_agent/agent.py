"""The agent: every part put together, started and stopped in order."""

from __future__ import annotations

import logging
import random
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
from anyio.abc import TaskGroup

from edge_agent.admission import Admission
from edge_agent.compute import ComputePool
from edge_agent.config import AgentSettings, CloudSettings
from edge_agent.escalation.breaker import BreakerState, CircuitBreaker
from edge_agent.escalation.client import GrpcCloudClient
from edge_agent.escalation.escalator import Escalator
from edge_agent.http_api import HttpApi
from edge_agent.http_server import HttpServer
from edge_agent.loading import load_models
from edge_agent.metrics import MetricsPage
from edge_agent.pipeline import Pipeline
from edge_agent.telemetry import Telemetry
from shared.backoff import Backoff
from shared.clock import Clock, SystemClock
from shared.errors import TandemError

_log = logging.getLogger(__name__)
_FAREWELL_TIMEOUT_S = 2.0
_LONGEST_LOAD_S = 600.0


@asynccontextmanager
async def open_pipeline(settings: AgentSettings, clock: Clock) -> AsyncIterator[Pipeline]:
    """The pipeline that `settings` describe, with its models loaded; closed on leaving.

    Raises:
        BundleError, EngineError, ConfigurationError: a model or a credential cannot be used.
    """
    pool = ComputePool(settings.workers, clock)
    async with AsyncExitStack() as closing:
        closing.callback(pool.close)
        loaded = await pool.run(lambda: load_models(settings.models), clock.monotonic_s() + _LONGEST_LOAD_S)
        escalator = None
        if settings.cloud:
            client = await closing.enter_async_context(GrpcCloudClient(settings.cloud))
            escalator = _escalator(settings.cloud, client, clock)
        yield Pipeline(
            loaded.value,
            pool,
            Admission(settings.http.max_in_flight, settings.workers),
            clock,
            default_deadline_ms=settings.http.default_deadline_ms,
            escalator=escalator,
            reserve_ms=settings.cloud.reserve_ms if settings.cloud else 0,
        )


class Agent:
    """One run of the agent, from start to drained stop."""

    def __init__(self, settings: AgentSettings, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._api = HttpApi(settings.http)
        self._stop_requested = anyio.Event()

    async def run(self, began_s: float | None = None) -> None:
        """Serve until SIGTERM, SIGINT or `request_stop`. `began_s`: monotonic start of the process, for the log.

        Raises:
            ConfigurationError, BundleError, EngineError: the agent cannot start as it is configured.
        """
        began_s = self._clock.monotonic_s() if began_s is None else began_s
        server = HttpServer(self._api, self._settings.http)
        failure: TandemError | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._obey_signals, server)
            tasks.start_soon(server.run)
            try:
                await self._serve(server, tasks, began_s)
            except TandemError as error:
                failure = error
            tasks.cancel_scope.cancel()
        if failure:
            raise failure

    def request_stop(self) -> None:
        """Drain and stop, as SIGTERM does."""
        self._stop_requested.set()

    async def _serve(self, server: HttpServer, tasks: TaskGroup, began_s: float) -> None:
        async with open_pipeline(self._settings, self._clock) as pipeline:
            telemetry = self._telemetry(pipeline)
            self._api.open(
                pipeline,
                MetricsPage(
                    pipeline.lanes, lambda: _link_state(pipeline), lambda: telemetry.is_connected if telemetry else None
                ),
            )
            if telemetry:
                tasks.start_soon(telemetry.run)
            _log_readiness(pipeline, server, self._clock.monotonic_s() - began_s)
            await self._stop_requested.wait()
            _log.info("stopping: draining for at most %d ms", self._settings.http.drain_ms)
            pipeline.admission.close()
            await server.stop()
            if telemetry:
                with anyio.move_on_after(_FAREWELL_TIMEOUT_S):
                    await telemetry.farewell()
        _log.info("stopped")

    async def _obey_signals(self, server: HttpServer) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                if self._stop_requested.is_set():
                    server.hurry()
                self.request_stop()

    def _telemetry(self, pipeline: Pipeline) -> Telemetry | None:
        settings = self._settings
        if settings.broker is None:
            return None
        boot_id = uuid.uuid4().hex
        return Telemetry(
            settings.device_id, boot_id, settings.broker, pipeline.lanes, lambda: _link_state(pipeline), self._clock
        )


def _escalator(settings: CloudSettings, client: GrpcCloudClient, clock: Clock) -> Escalator:
    backoff = Backoff(settings.breaker_open_ms / 1e3, settings.breaker_longest_ms / 1e3)
    breaker = CircuitBreaker(settings.breaker_failures, backoff, random.random)
    return Escalator(client, breaker, clock, timeout_s=settings.timeout_ms / 1e3, max_in_flight=settings.max_in_flight)


def _link_state(pipeline: Pipeline) -> BreakerState | None:
    return pipeline.escalator.link_state() if pipeline.escalator else None


def _log_readiness(pipeline: Pipeline, server: HttpServer, took_s: float) -> None:
    for lane in pipeline.lanes.values():
        model, threshold = lane.model, lane.model.gate_threshold
        gate = "escalates all" if threshold is None else f"keeps where {model.gate_score} ≥ {threshold:.4f}"
        _log.info("model %s %s: %s, %s", model.identity.name, model.identity.version, model.engine_description, gate)
    _log.info("ready after %.2f s at %s", took_s, server.url)
