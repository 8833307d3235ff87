"""The agent: every part put together, started and stopped in order."""

from __future__ import annotations

import gc
import logging
import random
import signal
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from edge_agent.accounting import Ledger
from edge_agent.admission import Admission
from edge_agent.auditing import Auditor
from edge_agent.compute import ComputePool
from edge_agent.config import AgentSettings, CloudSettings
from edge_agent.escalation.breaker import BreakerState, CircuitBreaker
from edge_agent.escalation.client import GrpcCloudClient
from edge_agent.escalation.escalator import Escalator
from edge_agent.gate_control import GateControl
from edge_agent.http_api import HttpApi
from edge_agent.http_server import HttpServer
from edge_agent.labelling import LabelDesk, LabelForwarder
from edge_agent.lanes import Lane
from edge_agent.loading import load_models
from edge_agent.metrics import MetricsPage, StateHealth
from edge_agent.model import EdgeModel
from edge_agent.pipeline import Pipeline
from edge_agent.reporting import Reporter
from edge_agent.state.answers import UnsavedAnswers
from edge_agent.state.file import open_state
from edge_agent.state.keeper import StateKeeper, StateThread
from edge_agent.telemetry import Telemetry
from shared.backoff import Backoff
from shared.clock import Clock, SystemClock
from shared.errors import TandemError

if TYPE_CHECKING:
    from edge_agent.updating import DeviceUpdates, InstalledModels

_log = logging.getLogger(__name__)
_FAREWELL_TIMEOUT_S = 2.0
_AUDIT_DRAIN_S = 1.0
_MOST_UNSAVED_ANSWERS = 10_000
_LONGEST_LOAD_S = 600.0


@asynccontextmanager
async def open_pipeline(
    settings: AgentSettings,
    clock: Clock,
    memory: UnsavedAnswers | None = None,
    load: Callable[[], tuple[EdgeModel, ...]] | None = None,
) -> AsyncIterator[Pipeline]:
    """The pipeline that `settings` describe, with its models loaded; closed on leaving.

    With a `memory` for its answers it also audits them, as an agent does that serves. `load` gives the models where
    they are not the bundles that `settings` name; it blocks.

    Raises:
        BundleError, EngineError, ConfigurationError: a model or a credential cannot be used.
    """
    pool = ComputePool(settings.workers, clock)
    async with AsyncExitStack() as closing:
        closing.callback(pool.close)
        load = load or partial(load_models, settings.models)
        loaded = await pool.run(load, clock.monotonic_s() + _LONGEST_LOAD_S)
        lanes = [_lane(model, settings, clock) for model in loaded.value]
        escalator = None
        if settings.cloud:
            client = await closing.enter_async_context(GrpcCloudClient(settings.cloud))
            escalator = _escalator(settings.cloud, client, clock)
        auditor = None
        if memory is not None:
            auditor = await closing.enter_async_context(Auditor(escalator, settings.audit, random.random))
        yield Pipeline(
            lanes,
            pool,
            Admission(settings.http.max_in_flight, settings.workers),
            clock,
            default_deadline_ms=settings.http.default_deadline_ms,
            escalator=escalator,
            reserve_ms=settings.cloud.reserve_ms if settings.cloud else 0,
            auditor=auditor,
            memory=memory,
        )


class Agent:
    """One run of the agent, from start to drained stop."""

    def __init__(self, settings: AgentSettings, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._api = HttpApi(settings.http, settings.labels)
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
                await self._serve(server, began_s)
            except TandemError as error:
                failure = error
            tasks.cancel_scope.cancel()
        if failure:
            raise failure

    def request_stop(self) -> None:
        """Drain and stop, as SIGTERM does."""
        self._stop_requested.set()

    async def _serve(self, server: HttpServer, began_s: float) -> None:
        memory = UnsavedAnswers(_MOST_UNSAVED_ANSWERS)
        async with (
            self._installed() as installed,
            open_pipeline(self._settings, self._clock, memory, installed.load if installed else None) as pipeline,
        ):
            reporter = self._reporter(pipeline)
            async with self._open_keeper(reporter, memory, pipeline) as keeper:
                telemetry = self._telemetry(reporter, keeper, pipeline)
                self._api.open(pipeline, _metrics_page(pipeline, keeper, telemetry), self._desk(pipeline, keeper))
                _log_readiness(pipeline, server, self._clock.monotonic_s() - began_s)
                updates = None
                if installed:
                    await to_thread.run_sync(installed.ready)
                    updates = self._updates(installed, pipeline, reporter, keeper, telemetry)
                gc.freeze()  # what is loaded now stays: looking at it again would hold answers up for tens of ms
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(keeper.run, self._clock)
                    if self._settings.cloud:
                        tasks.start_soon(self._forward_labels, self._settings.cloud, keeper)
                    if telemetry:
                        tasks.start_soon(telemetry.run)
                    if updates:
                        tasks.start_soon(updates.run)
                    await self._stop_requested.wait()
                    await self._stop(server, pipeline, telemetry)
                    tasks.cancel_scope.cancel()
        _log.info("stopped")

    async def _stop(self, server: HttpServer, pipeline: Pipeline, telemetry: Telemetry | None) -> None:
        _log.info("stopping: draining for at most %d ms", self._settings.http.drain_ms)
        pipeline.admission.close()
        await server.stop()
        if pipeline.auditor:
            await pipeline.auditor.drain(_AUDIT_DRAIN_S)
        if telemetry:
            with anyio.move_on_after(_FAREWELL_TIMEOUT_S):
                await telemetry.farewell()

    @asynccontextmanager
    async def _open_keeper(
        self, reporter: Reporter, memory: UnsavedAnswers, pipeline: Pipeline
    ) -> AsyncIterator[StateKeeper]:
        """The device's state; what earlier boots obeyed in this ring is obeyed again."""
        settings, thread = self._settings, StateThread()
        path = state_path(settings)
        try:
            file = await thread.run(
                lambda: open_state(path, reporter.boot_id, settings.labels.remembered_answers, self._clock.unix_s())
            )
            async with StateKeeper(file, thread, reporter, memory) as keeper:
                for name, lane in pipeline.lanes.items():
                    for payload in keeper.policies(name):
                        lane.control.hear(payload)
                yield keeper
        finally:
            thread.close()

    async def _forward_labels(self, settings: CloudSettings, keeper: StateKeeper) -> None:
        async with GrpcCloudClient(settings) as client:
            await LabelForwarder(client, keeper, self._clock, Backoff(1.0, 60.0), random.random).run()

    def _desk(self, pipeline: Pipeline, keeper: StateKeeper) -> LabelDesk:
        settings = self._settings
        tells_cloud = settings.cloud is not None
        return LabelDesk(pipeline.lanes, keeper, tells_cloud=tells_cloud, max_waiting=settings.labels.max_waiting)

    def _reporter(self, pipeline: Pipeline) -> Reporter:
        settings = self._settings
        link = partial(_link_state, pipeline)
        return Reporter(settings.device_id, uuid.uuid4().hex, settings.ring, pipeline.lanes, link, self._clock)

    @asynccontextmanager
    async def _installed(self) -> AsyncIterator[InstalledModels | None]:
        """What to load, where the device takes updates. Their packages are only imported then.

        An end in good order, or for want of a file or a setting, is held against no model; what nobody foresaw is.
        """
        if self._settings.update is None:
            yield None
            return
        from edge_agent.updating import InstalledModels

        installed = await to_thread.run_sync(InstalledModels, self._settings)
        try:
            yield installed
        except TandemError:
            await to_thread.run_sync(installed.stop)
            raise
        await to_thread.run_sync(installed.stop)

    def _updates(
        self,
        installed: InstalledModels,
        pipeline: Pipeline,
        reporter: Reporter,
        keeper: StateKeeper,
        telemetry: Telemetry | None,
    ) -> DeviceUpdates:
        from edge_agent.update.host import PipelineHost
        from edge_agent.updating import DeviceUpdates

        async def follow(lane: Lane) -> None:
            if telemetry:
                await telemetry.follow(lane)

        host = PipelineHost(
            pipeline,
            installed.threads,
            partial(_control, self._settings),
            self._clock,
            policies=keeper.policies,
            follow=follow,
            releases=installed.releases,
        )
        return DeviceUpdates(self._settings, installed, host, reporter.boot_id, telemetry, self._clock)

    async def _obey_signals(self, server: HttpServer) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                if self._stop_requested.is_set():
                    server.hurry()
                self.request_stop()

    def _telemetry(self, reporter: Reporter, keeper: StateKeeper, pipeline: Pipeline) -> Telemetry | None:
        settings = self._settings
        if settings.broker is None:
            return None
        return Telemetry(settings.broker, settings.ring, reporter, keeper, pipeline.lanes, self._clock)


def state_path(settings: AgentSettings) -> Path:
    """Where the device's state lies: a file for each device, so that several may share a folder."""
    return settings.state.data_dir / f"{settings.device_id}.sqlite"


def _lane(model: EdgeModel, settings: AgentSettings, clock: Clock) -> Lane:
    return Lane(model, Ledger(clock, model.bundle.gate), _control(settings, model))


def _control(settings: AgentSettings, model: EdgeModel) -> GateControl:
    return GateControl(model, settings.audit.share, settings.budget)


def _metrics_page(pipeline: Pipeline, keeper: StateKeeper, telemetry: Telemetry | None) -> MetricsPage:
    return MetricsPage(
        pipeline.lanes,
        partial(_link_state, pipeline),
        lambda: telemetry.is_connected if telemetry else None,
        lambda: StateHealth(keeper.is_failing, keeper.waiting_labels),
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
