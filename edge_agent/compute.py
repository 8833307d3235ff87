"""The one executor in which models compute, with deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import anyio

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
        asked_s = self._clock.monotonic_s()

        def timed() -> Computed[T]:
            began_s = self._clock.monotonic_s()
            if began_s >= deadline_s:
                raise DeadlineExpired("the deadline passed before the model could run")
            value = work()
            return Computed(value, (began_s - asked_s) * 1e3, (self._clock.monotonic_s() - began_s) * 1e3)

        future = asyncio.get_running_loop().run_in_executor(self._executor, timed)
        with anyio.move_on_after(max(0.0, deadline_s - asked_s)):
            return await future
        raise DeadlineExpired("the deadline passed before the model had answered")

    def close(self) -> None:
        """Begin nothing more; work under way is left to end."""
        self._executor.shutdown(wait=False, cancel_futures=True)
