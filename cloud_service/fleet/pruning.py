"""When old counts may be deleted. Pure.

A wall clock that jumps far ahead would make everything look old. So nothing is deleted until wall clock and
monotonic clock have agreed for a while.
"""

from __future__ import annotations

PRUNE_EVERY_S = 60.0
STEADY_FOR_S = 600.0
_TOLERANCE_S = 30.0


class PruneRule:
    """Asked at every commit."""

    def __init__(self) -> None:
        self._offset_s: float | None = None
        self._steady_since_s = 0.0
        self._pruned_s = 0.0

    def is_due(self, unix_s: float, monotonic_s: float) -> bool:
        """Whether to prune now; a yes counts as done. Both clocks of one `shared.clock.Clock`, in seconds."""
        offset_s = unix_s - monotonic_s
        if self._offset_s is None or abs(offset_s - self._offset_s) > _TOLERANCE_S:
            self._offset_s, self._steady_since_s = offset_s, monotonic_s
        if monotonic_s - self._steady_since_s < STEADY_FOR_S or monotonic_s - self._pruned_s < PRUNE_EVERY_S:
            return False
        self._pruned_s = monotonic_s
        return True
