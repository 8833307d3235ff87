"""One batcher a model: dispatches at once when the engine is free and lets the line fill while it is busy."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cloud_service.serving.backend import Backend
from cloud_service.serving.waiting_line import Waiting, WaitingLine
from shared.clock import Clock
from shared.errors import DeadlineExpired, EngineError, Overloaded
from shared.types import CloudTimings, Priority

_SHORTEST_RETRY_S = 0.02
_SMOOTHING = 0.2


@dataclass(frozen=True)
class BatchReport:
    """One computed batch. `cpu_s` counts the computing thread and the backend's own threads."""

    size: int
    padded_tokens: int
    wall_s: float
    cpu_s: float


class BatchObserver(Protocol):
    """Told of what the batcher does."""

    def computed(self, report: BatchReport) -> None:
        """A batch ended, well or not."""
        ...

    def waited(self, queue_ms: float) -> None:
        """A request left the line to be computed after `queue_ms`."""
        ...

    def expired(self, count: int) -> None:
        """Requests left the line because their deadline had passed."""
        ...


@dataclass(frozen=True)
class BatchedLogits:
    """One request's share of a batch: its logits [labels], and where its time went."""

    logits: NDArray[np.float32]
    timings: CloudTimings


@dataclass(frozen=True)
class BatcherStatistics:
    """The line and the engine at this moment."""

    queued: int
    computing: int
    items_per_s: float


@dataclass(frozen=True)
class _Work:
    token_ids: NDArray[np.int64]
    result: asyncio.Future[BatchedLogits]


_Batch = tuple[Waiting[_Work], ...]


@dataclass(frozen=True)
class _Computed:
    logits: NDArray[np.float32] | None
    error: EngineError | None
    report: BatchReport


class Batcher:
    """Use on one event loop. The backend computes in a named thread of its own."""

    def __init__(
        self, name: str, backend: Backend, clock: Clock, observer: BatchObserver, *, max_batch: int, max_queued: int
    ) -> None:
        self._backend = backend
        self._clock = clock
        self._observer = observer
        self._max_batch = max_batch
        self._max_queued = max_queued
        self._line: WaitingLine[_Work] = WaitingLine()
        self._computing = 0
        self._items_per_s = 0.0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"tandem-serve-{name}")

    def submit(
        self, token_ids: NDArray[np.int64], priority: Priority, deadline_s: float
    ) -> asyncio.Future[BatchedLogits]:
        """Put one text (token ids [tokens]) in the line; cancelling the future takes it out again.

        The future ends with DeadlineExpired where monotonic time `deadline_s` passes first, or EngineError.

        Raises:
            Overloaded: the line is full; says when it will have moved.
        """
        if len(self._line) >= self._max_queued:
            retry_s = len(self._line) / self._items_per_s if self._items_per_s else 1.0
            raise Overloaded(f"{len(self._line)} requests are waiting, the limit", max(_SHORTEST_RETRY_S, retry_s))
        result: asyncio.Future[BatchedLogits] = asyncio.get_running_loop().create_future()
        now_s = self._clock.monotonic_s()
        waiting = self._line.enter(_Work(token_ids, result), len(token_ids), priority, now_s, deadline_s)
        result.add_done_callback(lambda done: done.cancelled() and self._line.leave(waiting))
        if not self._computing:
            self._dispatch()
        return result

    def statistics(self) -> BatcherStatistics:
        """The line and the engine now."""
        return BatcherStatistics(len(self._line), self._computing, self._items_per_s)

    def close(self) -> None:
        """Cancel what waits and begin nothing more; a batch under way is left to end."""
        for waiting in self._line.select(float("-inf"), len(self._line) or 1).batch:
            waiting.item.result.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _dispatch(self) -> None:
        selection = self._line.select(self._clock.monotonic_s(), self._max_batch)
        if selection.expired:
            self._observer.expired(len(selection.expired))
            _fail_all(selection.expired, DeadlineExpired("the deadline passed before the model could run"))
        if not selection.batch:
            return
        self._computing = len(selection.batch)
        began_s = self._clock.monotonic_s()
        computing = asyncio.get_running_loop().run_in_executor(
            self._executor, self._compute, [waiting.item.token_ids for waiting in selection.batch]
        )
        computing.add_done_callback(lambda done: self._finish(selection.batch, began_s, done))

    def _compute(self, batch: list[NDArray[np.int64]]) -> _Computed:
        wall_s, cpu_s = time.perf_counter(), time.thread_time() + self._backend.worker_cpu_s()
        logits, error = None, None
        try:
            logits = self._backend.run(batch)
        except EngineError as failure:
            error = failure
        report = BatchReport(
            size=len(batch),
            padded_tokens=len(batch) * max(len(ids) for ids in batch),
            wall_s=time.perf_counter() - wall_s,
            cpu_s=time.thread_time() + self._backend.worker_cpu_s() - cpu_s,
        )
        return _Computed(logits, error, report)

    def _finish(self, batch: _Batch, began_s: float, done: asyncio.Future[_Computed]) -> None:
        self._computing = 0
        if done.cancelled():
            _fail_all(batch, EngineError("the service is shutting down"))
            return
        self._dispatch()
        if (bug := done.exception()) is not None:
            _fail_all(batch, bug)
            return
        computed = done.result()
        self._observe(computed.report)
        if computed.logits is None:
            _fail_all(batch, computed.error or EngineError("the backend gave no logits"))
            return
        self._answer(batch, began_s, computed.logits, computed.report)

    def _answer(self, batch: _Batch, began_s: float, logits: NDArray[np.float32], report: BatchReport) -> None:
        wall_ms = report.wall_s * 1e3
        for row, waiting in zip(logits, batch, strict=True):
            queue_ms = (began_s - waiting.entered_s) * 1e3
            self._observer.waited(queue_ms)
            if not waiting.item.result.done():
                timings = CloudTimings(queue_ms, wall_ms / report.size, wall_ms, report.size)
                waiting.item.result.set_result(BatchedLogits(row, timings))

    def _observe(self, report: BatchReport) -> None:
        self._observer.computed(report)
        rate = report.size / max(report.wall_s, 1e-6)
        self._items_per_s += (rate - self._items_per_s) * (_SMOOTHING if self._items_per_s else 1.0)


def _fail_all(batch: _Batch, error: BaseException) -> None:
    for waiting in batch:
        if not waiting.item.result.done():
            waiting.item.result.set_exception(error)
