"""How long to wait before the next try."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Exponential growth with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter"). Seconds."""

    first_s: float = 0.2
    longest_s: float = 10.0

    def delay_s(self, failures: int, uniform: Callable[[], float]) -> float:
        """Seconds to wait after `failures` ≥ 1 failures in a row; `uniform` gives numbers in [0, 1).

        Never less than a tenth of the full delay, so that a peer which refuses at once is not hammered.
        """
        full = min(self.longest_s, self.first_s * 2.0 ** min(failures - 1, 32))
        return full * (0.1 + 0.9 * uniform())
