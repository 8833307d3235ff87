"""The time by which signed metadata are judged: the latest of clock, last trusted time and build time.

A device whose clock starts in 1970 must not take metadata that expired long ago, and must not be locked out either.
Pure but for the clock that is passed in.
"""

from __future__ import annotations

from datetime import datetime, timezone

from shared.clock import Clock

BUILT_UNIX_S = datetime(2026, 11, 27, tzinfo=timezone.utc).timestamp()
"""A day that has passed for sure. `deploy.wheel_edge` puts the day of its build here, so that each device's wheel has
its own. No file's date is asked: packages and images set those as they like."""

_LATEST_UNIX_S = datetime(9999, 1, 1, tzinfo=timezone.utc).timestamp()


class TrustedTime:
    """Never runs backwards while the process lives, and goes on from its lower bound though the clock stands still."""

    def __init__(self, clock: Clock, *, last_trusted_unix_s: float, built_unix_s: float = BUILT_UNIX_S) -> None:
        self._clock = clock
        self._floor_unix_s = max(last_trusted_unix_s, built_unix_s)
        self._floor_set_at_s = clock.monotonic_s()

    @property
    def floor_unix_s(self) -> float:
        """It is at least this late, whatever the clock says."""
        return self._floor_unix_s + self._clock.monotonic_s() - self._floor_set_at_s

    def now_unix_s(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        return max(min(self._clock.unix_s(), _LATEST_UNIX_S), self.floor_unix_s)

    def confirm(self, unix_s: float) -> None:
        """Metadata were taken as unexpired at `unix_s`: from now on it is at least that late.

        Only a time at which every signature still held may be confirmed. A clock that is set far ahead finds all
        metadata expired, confirms nothing, and harms nothing once it is right again.
        """
        floor_unix_s = max(self.floor_unix_s, unix_s)
        self._floor_unix_s, self._floor_set_at_s = floor_unix_s, self._clock.monotonic_s()
