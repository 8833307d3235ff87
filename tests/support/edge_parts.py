"""A device's parts put together for tests: real bundle, real ONNX Runtime, and a cloud to script."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.admission import Admission
from edge_agent.compute import ComputePool
from edge_agent.engine import Engine
from edge_agent.escalation.breaker import CircuitBreaker
from edge_agent.escalation.escalator import CloudClient, Escalator
from edge_agent.model import EdgeModel
from edge_agent.pipeline import Pipeline
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
) -> Iterator[Pipeline]:
    """A pipeline with one worker; `cloud` None means a device alone."""
    clock = clock or SystemClock()
    pool = ComputePool(1, clock)
    escalator = None
    if cloud is not None:
        breaker = CircuitBreaker(failures_to_open, Backoff(10.0, 60.0), lambda: 0.999)
        escalator = Escalator(cloud, breaker, clock, timeout_s=timeout_s, max_in_flight=64)
    try:
        yield Pipeline(
            models,
            pool,
            Admission(max_in_flight, 1),
            clock,
            default_deadline_ms=2000,
            escalator=escalator,
            reserve_ms=reserve_ms,
        )
    finally:
        pool.close()


def assert_counters_add_up(counters: RequestCounters) -> None:
    """The identities that hold at every moment."""
    ended = counters.edge + counters.cloud + counters.degraded + counters.failed
    calls = counters.served + counters.call_failed + counters.timed_out
    assert counters.received == counters.accepted + counters.rejected
    assert counters.accepted == ended + counters.in_flight
    assert counters.attempted == calls + counters.calls_in_flight
    assert counters.wanted <= counters.accepted
    assert min(counters.in_flight, counters.calls_in_flight) >= 0
