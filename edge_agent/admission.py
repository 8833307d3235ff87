"""Bounded room for requests. Rules alone."""

from __future__ import annotations

from types import TracebackType

from shared.errors import NotReady, Overloaded

_SMOOTHING = 0.1
_SHORTEST_RETRY_S = 0.05


class Admission:
    """At most `limit` requests at once, of all models together; entered with `with` after `check`."""

    def __init__(self, limit: int, workers: int) -> None:
        self._limit = limit
        self._workers = workers
        self._in_flight = 0
        self._mean_compute_ms = 0.0
        self._closed = False

    @property
    def is_open(self) -> bool:
        """Whether requests are taken at all."""
        return not self._closed

    def close(self) -> None:
        """Take no more requests; those inside go on."""
        self._closed = True

    def check(self) -> None:
        """Whether there is room now.

        Raises:
            NotReady: no more requests are taken.
            Overloaded: every place is taken; says when the queue will be through at the pace of late.
        """
        if self._closed:
            raise NotReady("the agent is shutting down")
        if self._in_flight >= self._limit:
            expected_s = self._in_flight * self._mean_compute_ms / self._workers / 1e3
            raise Overloaded(
                f"{self._in_flight} requests are being answered, the limit", max(_SHORTEST_RETRY_S, expected_s)
            )

    def observe(self, compute_ms: float) -> None:
        """Take one computation's time into the running mean."""
        if self._mean_compute_ms == 0.0:
            self._mean_compute_ms = compute_ms
        self._mean_compute_ms += _SMOOTHING * (compute_ms - self._mean_compute_ms)

    def __enter__(self) -> None:
        self._in_flight += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._in_flight -= 1
