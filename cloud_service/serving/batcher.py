"""One batcher a model: dispatches at once when the engine is free and lets the line fill while it is busy.

The engine's thread takes its next batch itself the moment it is done with the last: no timer, no polling, and no
turn of the event loop between two batches.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from cloud_service.serving.backend import Backend
from cloud_service.serving.drain_rate import DrainRate
from cloud_service.serving.waiting_line import Waiting, WaitingLine
from shared.clock import Clock
from shared.errors import DeadlineExpired, EngineError, NotReady, Overloaded
from shared.types import CloudTimings, Priority

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True)
class BatchReport:
    """One computed batch. `cpu_s` counts the engine's thread and the backend's own threads, nothing else."""

    size: int
    wall_s: float
    cpu_s: float


class BatchObserver(Protocol):
    """Told of what the batcher does, on the event loop."""

    def computed(self, report: BatchReport, queue_ms: Sequence[float]) -> None:
        """A batch ended, well or not; its members had waited `queue_ms`."""
        ...

    def expired(self, count: int) -> None:
        """Requests left the line uncomputed because their deadline had passed."""
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
    """`backend` is the one that was there when the request came: its token ids are that model's."""

    backend: Backend
    token_ids: NDArray[np.int64]
    result: asyncio.Future[BatchedLogits]


@dataclass(frozen=True)
class Ticket:
    """A request in the line or beyond it. `result` ends with DeadlineExpired, EngineError or NotReady otherwise."""

    result: asyncio.Future[BatchedLogits]
    _waiting: Waiting[_Work]


_Members: TypeAlias = tuple[Waiting[_Work], ...]
_Row: TypeAlias = "NDArray[np.float32] | EngineError"


@dataclass(frozen=True)
class _Computed:
    """A batch that ended: for each member its logits or what failed."""

    members: _Members
    rows: list[_Row]
    began_s: float
    report: BatchReport


class Batcher:
    """Made and used on one event loop; the backend computes in a named thread of its own.

    The backend can be swapped under traffic: what waits in the line then is still computed by the one before.
    """

    def __init__(
        self, name: str, backend: Backend, clock: Clock, observer: BatchObserver, *, max_batch: int, max_queued: int
    ) -> None:
        self._backend = backend
        self._clock = clock
        self._observer = observer
        self._max_batch = max_batch
        self._max_queued = max_queued
        self._loop = asyncio.get_running_loop()
        self._line: WaitingLine[_Work] = WaitingLine()
        self._arrival = threading.Condition()
        self._computing = 0
        self._closed = False
        self._drain_rate = DrainRate()
        self._engine = threading.Thread(target=self._compute_batches, name=f"tandem-engine-{name}", daemon=True)
        self._engine.start()

    def submit(self, token_ids: NDArray[np.int64], priority: Priority, deadline_s: float) -> Ticket:
        """Put one text (token ids [tokens]) in the line. `deadline_s` is monotonic time.

        Raises:
            Overloaded: the line is full; says when it will have moved.
            NotReady: the batcher was closed.
        """
        work = _Work(self._backend, token_ids, self._loop.create_future())
        with self._arrival:
            if self._closed:
                raise NotReady("the service is shutting down")
            if len(self._line) >= self._max_queued:
                queued = len(self._line)
                raise Overloaded(f"{queued} requests are waiting, the limit", self._drain_rate.seconds_for(queued))
            now_s = self._clock.monotonic_s()
            waiting = self._line.enter(work, len(token_ids), priority, now_s, deadline_s)
            self._arrival.notify()
        return Ticket(work.result, waiting)

    def swap(self, backend: Backend) -> None:
        """What is submitted from now on is computed by `backend`."""
        self._backend = backend

    def withdraw(self, ticket: Ticket) -> bool:
        """Take a request out of the line; False where it is being computed or has been, and its result still comes."""
        with self._arrival:
            left = self._line.leave(ticket._waiting)
        if left:
            ticket.result.cancel()
            if ticket._waiting.deadline_s <= self._clock.monotonic_s():
                self._observer.expired(1)
        return left

    def statistics(self) -> BatcherStatistics:
        """The line and the engine now."""
        with self._arrival:
            return BatcherStatistics(len(self._line), self._computing, self._drain_rate.items_per_s)

    def close(self, timeout_s: float = 5.0) -> None:
        """Refuse what waits and begin nothing more; waits up to `timeout_s` for the batch under way."""
        with self._arrival:
            self._closed = True
            refused = self._line.clear()
            self._arrival.notify()
        _fail(refused, NotReady, "the service is shutting down")
        self._engine.join(timeout_s)

    def _compute_batches(self) -> None:
        while members := self._next_batch():
            computed = self._compute(members)
            with self._arrival:
                self._computing = 0
                self._drain_rate.observe(computed.report.size, computed.report.wall_s)
            self._tell_loop(self._deliver, computed)

    def _next_batch(self) -> _Members:
        """Wait for work and take it; empty when the batcher was closed."""
        with self._arrival:
            while not self._closed:
                selection = self._line.select(self._clock.monotonic_s(), self._max_batch)
                if selection.expired:
                    self._tell_loop(self._expire, selection.expired)
                if selection.batch:
                    self._computing = len(selection.batch)
                    return selection.batch
                self._arrival.wait()
        return ()

    def _compute(self, members: _Members) -> _Computed:
        began_s = self._clock.monotonic_s()
        wall_s, cpu_s = time.perf_counter(), 0.0
        rows: dict[int, _Row] = {}
        for backend, group in _by_backend(members):
            before_s = time.thread_time() + backend.worker_cpu_s()
            computed = self._rows(backend, [waiting.item.token_ids for waiting in group])
            cpu_s += time.thread_time() + backend.worker_cpu_s() - before_s
            rows.update((waiting.number, row) for waiting, row in zip(group, computed, strict=True))
        report = BatchReport(len(members), time.perf_counter() - wall_s, cpu_s)
        return _Computed(members, [rows[waiting.number] for waiting in members], began_s, report)

    def _rows(self, backend: Backend, batch: list[NDArray[np.int64]]) -> list[_Row]:
        """Logits for each text; where the batch fails, each is tried alone, so that one bad text fails alone."""
        try:
            logits = backend.run(batch)
            if len(logits) != len(batch):
                raise EngineError(f"the model gave {len(logits)} rows for {len(batch)} texts")
            return list(logits)
        except Exception as error:  # noqa: BLE001 - the engine's thread is a border: it outlives any backend's fault
            _log.error("a batch of %d failed: %r", len(batch), error)
            if len(batch) == 1:
                return [error if isinstance(error, EngineError) else EngineError(f"the model failed: {error}")]
            return [row for token_ids in batch for row in self._rows(backend, [token_ids])]

    def _tell_loop(self, listener: Callable[[_T], None], news: _T) -> None:
        try:
            self._loop.call_soon_threadsafe(listener, news)
        except RuntimeError:  # the loop was closed before the last batch ended: nobody is left to answer
            _log.warning("the answers of the last batch were dropped at shutdown")

    def _deliver(self, computed: _Computed) -> None:
        report, wall_ms = computed.report, computed.report.wall_s * 1e3
        waits_ms = [(computed.began_s - waiting.entered_s) * 1e3 for waiting in computed.members]
        self._observer.computed(report, waits_ms)
        for waiting, row, queue_ms in zip(computed.members, computed.rows, waits_ms, strict=True):
            result = waiting.item.result
            if result.done():
                continue
            if isinstance(row, EngineError):
                result.set_exception(row)
            else:
                timings = CloudTimings(queue_ms, wall_ms / report.size, wall_ms, report.size)
                result.set_result(BatchedLogits(row, timings))

    def _expire(self, expired: _Members) -> None:
        self._observer.expired(len(expired))
        _fail(expired, DeadlineExpired, "the deadline passed before the model could run")


def _by_backend(members: _Members) -> list[tuple[Backend, _Members]]:
    """A batch is of one backend, unless it was gathered around a swap."""
    first = members[0].item.backend
    if all(waiting.item.backend is first for waiting in members):
        return [(first, members)]
    groups: dict[int, list[Waiting[_Work]]] = {}
    for waiting in members:
        groups.setdefault(id(waiting.item.backend), []).append(waiting)
    return [(group[0].item.backend, tuple(group)) for group in groups.values()]


def _fail(members: _Members, kind: type[Exception], problem: str) -> None:
    for waiting in members:
        if not waiting.item.result.done():
            waiting.item.result.set_exception(kind(problem))
