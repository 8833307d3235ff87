"""How much is asked for at once, how long an answer is waited for, and when a transfer is too slow. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shared.update.blocks import MAX_BLOCK_BYTES

_SMOOTHING, _DEVIATION_SMOOTHING, _DEVIATIONS = 1 / 8, 1 / 4, 4
_JITTER = 0.25
_BLOCKS_IN_WINDOW = 16
_LEAST_BLOCK_BYTES = 16 * 1024


@dataclass(frozen=True)
class TransferLimits:
    """Bounds of a device's transfers.

    `block_bytes`: of one message at most; it is less while the window is narrow. `window_bytes`: at most so much is
    asked for and not yet handed on. `aimed_delay_s`: the window grows while blocks come within this time, so that what
    else goes over the link waits no longer.
    A transfer fails when nothing useful comes for `stalled_after_s`, or when it takes longer than `grace_s` and its
    bytes at `least_bytes_per_s`.
    """

    block_bytes: int = MAX_BLOCK_BYTES
    window_bytes: int = 16 * 1024 * 1024
    aimed_delay_s: float = 1.0
    first_timeout_s: float = 3.0
    least_timeout_s: float = 1.0
    longest_timeout_s: float = 30.0
    stalled_after_s: float = 60.0
    grace_s: float = 120.0
    least_bytes_per_s: float = 256.0

    def __post_init__(self) -> None:
        """Raises: ValueError: a block fits no message, or no window."""
        if not 1 <= self.block_bytes <= min(MAX_BLOCK_BYTES, self.window_bytes):
            raise ValueError(f"blocks of {self.block_bytes} bytes do not fit a message or the window")


class Pacer:
    """Timeouts as TCP's (RFC 6298), and a window that opens until blocks begin to queue somewhere on their way."""

    def __init__(self, limits: TransferLimits) -> None:
        self._limits = limits
        self._least_bytes = min(limits.block_bytes, _LEAST_BLOCK_BYTES)
        self._window = float(min(limits.window_bytes, _BLOCKS_IN_WINDOW * self._least_bytes))
        self._smoothed_s: float | None = None
        self._deviation_s = 0.0
        self._backed_off = 1.0
        self._narrowed_s = float("-inf")

    @property
    def window_bytes(self) -> int:
        """How much may be under way now."""
        return int(self._window)

    @property
    def block_bytes(self) -> int:
        """How long a block may be now: a small part of the window, so that a slow link carries small ones."""
        return int(min(self._limits.block_bytes, max(self._least_bytes, self._window // _BLOCKS_IN_WINDOW)))

    def delivered(self, delay_s: float, length: int, now_s: float) -> None:
        """A block of `length` bytes, asked for once, has come after `delay_s`."""
        self._backed_off = 1.0
        if self._smoothed_s is None:
            self._smoothed_s, self._deviation_s = delay_s, delay_s / 2
        else:
            self._deviation_s += _DEVIATION_SMOOTHING * (abs(delay_s - self._smoothed_s) - self._deviation_s)
            self._smoothed_s += _SMOOTHING * (delay_s - self._smoothed_s)
        if delay_s <= self._limits.aimed_delay_s:
            self._window = min(float(self._limits.window_bytes), self._window + length)
        elif delay_s > 2 * self._limits.aimed_delay_s:
            self._narrow(now_s)

    def lost(self, now_s: float) -> None:
        """A block was overtaken by later ones."""
        self._narrow(now_s)

    def timed_out(self, now_s: float) -> None:
        """Nothing came in time: the next answer is waited for twice as long, until one comes."""
        self._narrow(now_s)
        self._backed_off = min(self._backed_off * 2, 64.0)

    def start_afresh(self) -> None:
        """Whoever was silent has spoken again."""
        self._backed_off = 1.0

    def timeout_s(self, uniform: Callable[[], float]) -> float:
        """Seconds to wait for a block that is asked for now; `uniform` gives numbers in [0, 1)."""
        limits = self._limits
        usual_s = limits.first_timeout_s
        if self._smoothed_s is not None:
            usual_s = max(limits.least_timeout_s, self._smoothed_s + _DEVIATIONS * self._deviation_s)
        return min(limits.longest_timeout_s, usual_s * self._backed_off) * (1 + _JITTER * uniform())

    def _narrow(self, now_s: float) -> None:
        """Once in a round trip: the blocks of one burst are lost together."""
        if now_s - self._narrowed_s < (self._smoothed_s or self._limits.first_timeout_s):
            return
        self._narrowed_s = now_s
        self._window = max(float(self._least_bytes), self._window / 2)


class Patience:
    """Ends transfers that never end: the time that is waited for a file is bounded by its greatest length.

    Only the waiting counts, not what the receiver does between.
    """

    def __init__(self, limits: TransferLimits) -> None:
        self._limits = limits
        self._waited_s = 0.0
        self._since_news_s = 0.0
        self._bytes = 0

    def waited(self, seconds: float, length: int) -> None:
        """`seconds` went by, in which `length` useful bytes came."""
        self._waited_s += seconds
        self._since_news_s = 0.0 if length else self._since_news_s + seconds
        self._bytes += length

    @property
    def left_s(self) -> float:
        """Seconds until it is lost if nothing comes; 0 or less when it is."""
        limits = self._limits
        slow_s = limits.grace_s + self._bytes / limits.least_bytes_per_s - self._waited_s
        return min(slow_s, limits.stalled_after_s - self._since_news_s)

    def problem(self) -> str:
        """In plain words; "" while there is patience left."""
        if self.left_s > 0:
            return ""
        if self._since_news_s >= self._limits.stalled_after_s:
            return f"nothing came for {self._since_news_s:.0f} s"
        rate = self._bytes / self._waited_s
        return f"{rate:.0f} bytes/s in {self._waited_s:.0f} s are less than {self._limits.least_bytes_per_s:g}"
