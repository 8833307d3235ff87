"""A device's parts put together for tests: real bundle, real ONNX Runtime, and a cloud to script."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.accounting import Ledger
from edge_agent.admission import Admission
from edge_agent.auditing import Auditor
from edge_agent.compute import ComputePool
from edge_agent.config import AuditSettings, BudgetSettings
from edge_agent.engine import Engine
from edge_agent.escalation.breaker import CircuitBreaker
from edge_agent.escalation.escalator import CloudClient, Escalator
from edge_agent.gate_control import GateControl
from edge_agent.lanes import Lane
from edge_agent.model import EdgeModel
from edge_agent.pipeline import Pipeline
from edge_agent.reporting import Reporter
from edge_agent.state.answers import UnsavedAnswers
from edge_agent.state.file import StateFile
from edge_agent.state.keeper import StateKeeper, StateThread
from shared.backoff import Backoff
from shared.bundle import read_bundle
from shared.clock import Clock, SystemClock
from shared.text import TextEncoder
from shared.types import RequestCounters


class ScriptedEngine:
    """Implements `Engine` with a function of the token ids."""

    def __init__(self, predict: Callable[[NDArray[np.int64]], NDArray[np.float32]]) -> None:
        self._predict = predict
        self.calls = 0

    @property
    def description(self) -> str:
        return "scripted"

    def predict(self, token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        self.calls += 1
        return self._predict(token_ids)


class StuckEngine(ScriptedEngine):
    """Computes when it is let go."""

    def __init__(self) -> None:
        super().__init__(self._wait)
        self.let_go = threading.Event()

    def _wait(self, token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        self.let_go.wait(5.0)
        return np.array([9.0, 0.0, 0.0], np.float32)


def model_with_engine(bundle_folder: Path, engine: Engine) -> EdgeModel:
    """The bundle's model with another engine under it."""
    bundle = read_bundle(bundle_folder)
    return EdgeModel(bundle, TextEncoder.of(bundle), engine)


def lane_of(model: EdgeModel, clock: Clock, audit_share: float = 0.0, budget: BudgetSettings | None = None) -> Lane:
    """A model as an agent runs it."""
    return Lane(model, Ledger(clock, model.bundle.gate), GateControl(model, audit_share, budget))


@contextmanager
def open_test_pipeline(
    models: Sequence[EdgeModel],
    *,
    cloud: CloudClient | None = None,
    clock: Clock | None = None,
    max_in_flight: int = 8,
    failures_to_open: int = 3,
    timeout_s: float = 1.0,
    reserve_ms: int = 20,
    budget: BudgetSettings | None = None,
    audit_share: float = 0.0,
    memory: UnsavedAnswers | None = None,
) -> Iterator[Pipeline]:
    """A pipeline with one worker and no auditor yet; `cloud` None means a device alone."""
    clock = clock or SystemClock()
    pool = ComputePool(1, clock)
    escalator = None
    if cloud is not None:
        breaker = CircuitBreaker(failures_to_open, Backoff(10.0, 60.0), lambda: 0.999)
        escalator = Escalator(cloud, breaker, clock, timeout_s=timeout_s, max_in_flight=64)
    try:
        yield Pipeline(
            [lane_of(model, clock, audit_share, budget) for model in models],
            pool,
            Admission(max_in_flight, 1),
            clock,
            default_deadline_ms=2000,
            escalator=escalator,
            reserve_ms=reserve_ms,
            memory=memory,
        )
    finally:
        pool.close()


@asynccontextmanager
async def audited(
    pipeline: Pipeline, uniform: Callable[[], float] = lambda: 0.0, *, max_in_flight: int = 8, timeout_ms: int = 1000
) -> AsyncIterator[Auditor]:
    """The pipeline with an auditor, whose chance is `uniform`."""
    settings = AuditSettings(max_in_flight=max_in_flight, timeout_ms=timeout_ms)
    async with Auditor(pipeline.escalator, settings, uniform) as auditor:
        pipeline.auditor = auditor
        yield auditor


@asynccontextmanager
async def open_test_keeper(
    pipeline: Pipeline, memory: UnsavedAnswers, path: Path | None, *, boot_id: str = "b1", remembered: int = 1000
) -> AsyncIterator[StateKeeper]:
    """The state of a device d1 in the file `path`, or in memory alone."""
    thread, clock = StateThread(), SystemClock()
    reporter = Reporter("d1", boot_id, "default", pipeline.lanes, lambda: None, clock)
    try:
        async with StateKeeper(StateFile(path, boot_id, remembered), thread, reporter, memory) as keeper:
            yield keeper
    finally:
        thread.close()


def assert_counters_add_up(counters: RequestCounters) -> None:
    """The identities that hold at every moment."""
    ended = counters.edge + counters.cloud + counters.degraded + counters.failed
    calls = counters.served + counters.call_failed + counters.timed_out
    assert counters.received == counters.accepted + counters.rejected
    assert counters.accepted == ended + counters.in_flight
    assert counters.attempted == calls + counters.calls_in_flight
    assert counters.wanted <= counters.accepted
    assert min(counters.in_flight, counters.calls_in_flight) >= 0
