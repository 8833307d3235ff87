"""Where models compute: an executor of named threads, with deadlines."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from shared.clock import Clock
from shared.errors import DeadlineExpired

T = TypeVar("T")
_QUICK_MS = 2.0
_SMOOTHING = 0.1


@dataclass(frozen=True)
class Computed(Generic[T]):
    """A result, with the time that it waited for a worker and the time that it took, in ms."""

    value: T
    queue_ms: float
    compute_ms: float


class ComputePool:
    """`workers` named threads. How much may wait for them is bounded by admission, before it comes here.

    Work that is alone and usually quick is done on the event loop itself: changing threads twice costs as much again.
    """

    def __init__(self, workers: int, clock: Clock) -> None:
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="tandem-compute")
        self._clock = clock
        self._under_way = 0
        self._usual_ms: dict[str, float] = {}

    async def run(self, work: Callable[[], T], deadline_s: float, kind: str = "") -> Computed[T]:
        """Do `work`; what has expired by monotonic time `deadline_s` is not begun.

        `kind` names work that takes about as long each time; "" is always done by a worker.

        Raises:
            DeadlineExpired: the deadline passed first. Work under way is left to end, its result unused.
        """
        asked_s = self._clock.monotonic_s()
        self._under_way += 1
        try:
            await asyncio.sleep(0)  # whoever came meanwhile comes in, and is seen
            if self._under_way == 1 and self._usual_ms.get(kind, math.inf) < _QUICK_MS:
                computed = self._compute_here(work, asked_s, deadline_s)
            else:
                computed = await self._compute_in_worker(work, asked_s, deadline_s)
        finally:
            self._under_way -= 1
        if kind:
            usual_ms = self._usual_ms.get(kind, computed.compute_ms)
            self._usual_ms[kind] = usual_ms + _SMOOTHING * (computed.compute_ms - usual_ms)
        return computed

    def _compute_here(self, work: Callable[[], T], asked_s: float, deadline_s: float) -> Computed[T]:
        began_s = self._clock.monotonic_s()
        if began_s >= deadline_s:
            raise DeadlineExpired("the deadline passed before the model had answered")
        value = work()
        return Computed(value, (began_s - asked_s) * 1e3, (self._clock.monotonic_s() - began_s) * 1e3)

    async def _compute_in_worker(self, work: Callable[[], T], asked_s: float, deadline_s: float) -> Computed[T]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Computed[T]] = loop.create_future()
        expiry = loop.call_later(max(0.0, deadline_s - asked_s), _expire, answer)
        self._executor.submit(self._compute, work, asked_s, deadline_s, answer, loop)
        try:
            return await answer
        finally:
            expiry.cancel()
            answer.cancel()

    def _compute(
        self,
        work: Callable[[], T],
        asked_s: float,
        deadline_s: float,
        answer: asyncio.Future[Computed[T]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Runs in a worker. Hands over by itself: `run_in_executor`'s chain of futures costs twice as much."""
        began_s = self._clock.monotonic_s()
        if answer.done():
            return
        if began_s >= deadline_s:
            loop.call_soon_threadsafe(_expire, answer)
            return
        try:
            value = work()
        except Exception as error:  # noqa: BLE001 - raised again where the caller waits
            loop.call_soon_threadsafe(_fail, answer, error)
            return
        computed = Computed(value, (began_s - asked_s) * 1e3, (self._clock.monotonic_s() - began_s) * 1e3)
        loop.call_soon_threadsafe(_succeed, answer, computed)

    def close(self) -> None:
        """Begin nothing more; work under way is left to end."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _succeed(answer: asyncio.Future[Computed[T]], computed: Computed[T]) -> None:
    if not answer.done():
        answer.set_result(computed)


def _fail(answer: asyncio.Future[Computed[T]], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)


def _expire(answer: asyncio.Future[Computed[T]]) -> None:
    _fail(answer, DeadlineExpired("the deadline passed before the model had answered"))
