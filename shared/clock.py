"""Time as an argument, so that rules never read a clock and tests can jump it."""

from __future__ import annotations

import time
from typing import Protocol

import anyio


class Clock(Protocol):
    """What Tandem asks of time."""

    def monotonic_s(self) -> float:
        """Seconds since some fixed point; never runs backwards. For durations and deadlines."""
        ...

    def unix_s(self) -> float:
        """Seconds since 1970-01-01 UTC as this machine believes; may jump. For timestamps alone."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds`; returns at once when not positive."""
        ...


class SystemClock:
    """The machine's clocks."""

    def monotonic_s(self) -> float:
        """See `Clock`."""
        return time.monotonic()

    def unix_s(self) -> float:
        """See `Clock`."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """See `Clock`."""
        await anyio.sleep(max(0.0, seconds))
