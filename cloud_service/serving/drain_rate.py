"""How fast the line moves, and so when to come again. Rules alone."""

from __future__ import annotations

_SMOOTHING = 0.2
_SHORTEST_S = 0.02
_LONGEST_S = 30.0
_UNKNOWN_S = 1.0


class DrainRate:
    """Items a second that the engine gets through, exponentially smoothed over batches."""

    def __init__(self) -> None:
        self.items_per_s = 0.0

    def observe(self, items: int, seconds: float) -> None:
        """Count a batch of `items` that took `seconds`."""
        rate = items / max(seconds, 1e-6)
        self.items_per_s += (rate - self.items_per_s) * (_SMOOTHING if self.items_per_s else 1.0)

    def seconds_for(self, items: int) -> float:
        """How long the engine needs for `items`, between 20 ms and 30 s; 1 s before the first batch."""
        if not self.items_per_s:
            return _UNKNOWN_S
        return min(_LONGEST_S, max(_SHORTEST_S, items / self.items_per_s))
