"""A clock that tests set and advance."""

from __future__ import annotations

import anyio
import anyio.lowlevel


class FakeClock:
    """Implements `shared.clock.Clock`. `advance` moves both clocks; `jump` moves the wall clock alone."""

    def __init__(self, monotonic_s: float = 1000.0, unix_s: float = 1_800_000_000.0) -> None:
        self._monotonic_s = monotonic_s
        self._unix_s = unix_s
        self._sleepers: list[tuple[float, anyio.Event]] = []

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def unix_s(self) -> float:
        return self._unix_s

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await anyio.lowlevel.checkpoint()
            return
        woken = anyio.Event()
        self._sleepers.append((self._monotonic_s + seconds, woken))
        await woken.wait()

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass and wake who has slept enough."""
        self._monotonic_s += seconds
        self._unix_s += seconds
        due = [woken for until, woken in self._sleepers if until <= self._monotonic_s]
        self._sleepers = [(until, woken) for until, woken in self._sleepers if until > self._monotonic_s]
        for woken in due:
            woken.set()

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back, as a time server would."""
        self._unix_s += seconds
