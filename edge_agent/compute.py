"""The one executor in which models compute, with deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from shared.clock import Clock
from shared.errors import DeadlineExpired

T = TypeVar("T")


@dataclass(frozen=True)
class Computed(Generic[T]):
    """A result, with the time that it waited for a worker and the time that it took, in ms."""

    value: T
    queue_ms: float
    compute_ms: float


class ComputePool:
    """`workers` named threads. How much may wait for them is bounded by admission, before it comes here."""

    def __init__(self, workers: int, clock: Clock) -> None:
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="tandem-compute")
        self._clock = clock

    async def run(self, work: Callable[[], T], deadline_s: float) -> Computed[T]:
        """Do `work` in a worker; what has expired by monotonic time `deadline_s` is not begun.

        Raises:
            DeadlineExpired: the deadline passed first. Work under way is left to end, its result unused.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Computed[T]] = loop.create_future()
        asked_s = self._clock.monotonic_s()
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
