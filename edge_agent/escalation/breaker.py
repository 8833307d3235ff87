"""The circuit breaker: rules alone. Time and chance come in as arguments.

    closed ──failures in a row──▶ open ──wait is over──▶ half_open ──probe failed──▶ open, for longer
       ▲                                                     │
       └──────────────── a call succeeded ───────────────────┘

Source: Nygard, "Release It!", and Microsoft's Circuit Breaker pattern.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from shared.backoff import Backoff


class BreakerState(str, Enum):
    """`half_open`: the wait is over and one call may try."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True)
class Permit:
    """Leave to make one call; give it back with `succeeded`, `failed` or `abandoned`."""

    is_probe: bool


class CircuitBreaker:
    """Opens after `failures_to_open` failed calls in a row; then lets one probe through at a time."""

    def __init__(self, failures_to_open: int, backoff: Backoff, uniform: Callable[[], float]) -> None:
        """`backoff` gives the time to stay open, by openings in a row; `uniform` numbers in [0, 1)."""
        self._failures_to_open = failures_to_open
        self._backoff = backoff
        self._uniform = uniform
        self._failures = 0
        self._openings = 0
        self._open_until_s: float | None = None
        self._probing = False

    def state(self, now_s: float) -> BreakerState:
        """The state at monotonic time `now_s`."""
        if self._open_until_s is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now_s < self._open_until_s else BreakerState.HALF_OPEN

    def acquire(self, now_s: float) -> Permit | None:
        """Leave for one call, or None while the breaker is open or its probe is under way."""
        state = self.state(now_s)
        if state is BreakerState.CLOSED:
            return Permit(is_probe=False)
        if state is BreakerState.OPEN or self._probing:
            return None
        self._probing = True
        return Permit(is_probe=True)

    def succeeded(self, permit: Permit) -> None:
        """The cloud answered, if only to refuse: the way to it is good."""
        self._release(permit)
        self._failures = 0
        self._openings = 0
        self._open_until_s = None

    def failed(self, permit: Permit, now_s: float) -> None:
        """The cloud did not answer. Calls that began before the breaker opened change nothing any more."""
        self._release(permit)
        self._failures += 1
        closed = self._open_until_s is None
        if permit.is_probe or (closed and self._failures >= self._failures_to_open):
            self._openings += 1
            self._open_until_s = now_s + self._backoff.delay_s(self._openings, self._uniform)

    def abandoned(self, permit: Permit) -> None:
        """The call was cancelled and says nothing of the cloud."""
        self._release(permit)

    def _release(self, permit: Permit) -> None:
        if permit.is_probe:
            self._probing = False
