"""A cap on offload. Rules alone; requests are its only measure of time."""

from __future__ import annotations

_BURST_REQUESTS = 20.0


class OffloadBudget:
    """A token bucket: every accepted request brings `cap` tokens, every one that escalates takes one.

    What the gate wants to escalate and the budget keeps takes none. The bucket holds at most 20 tokens and begins
    full, so over any stretch of n requests at most cap · n + 20 find it above its cap and are let go although the
    gate might have been loosened; it owes at most 20, so a spell that could not be loosened is soon forgotten.
    """

    def __init__(self, cap: float | None) -> None:
        """`cap` is a share of the accepted requests in [0, 1]; None: no cap."""
        self.cap = cap
        self._tokens = _BURST_REQUESTS

    @property
    def is_over(self) -> bool:
        """Whether the running offload ratio is above the cap."""
        return self.cap is not None and self._tokens < 1.0

    def accepted(self) -> None:
        """A request has an answer of the device's own."""
        if self.cap is not None:
            self._tokens = min(_BURST_REQUESTS, self._tokens + self.cap)

    def escalated(self) -> None:
        """The gate wanted the cloud, and the request went its way."""
        if self.cap is not None:
            self._tokens = max(-_BURST_REQUESTS, self._tokens - 1.0)
