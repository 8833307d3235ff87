"""Latency histograms with fixed bounds, so that those of many devices add up exactly."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from shared.types import LatencyHistogram

BOUNDS_MS: tuple[float, ...] = tuple(round(0.25 * 2 ** (step / 4), 4) for step in range(72))
"""Upper bounds (inclusive) of the buckets in ms: four a doubling, 0.25 ms to 55 s; one more bucket holds the rest."""


class HistogramRecorder:
    """Counts latencies; add-only."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_MS) + 1)
        self._sum_ms = 0.0

    def add(self, value_ms: float) -> None:
        """Count one latency in ms."""
        self._counts[bisect_left(BOUNDS_MS, value_ms)] += 1
        self._sum_ms += value_ms

    def snapshot(self) -> LatencyHistogram:
        """The counts so far."""
        return LatencyHistogram(tuple(self._counts), self._sum_ms)


def quantile_ms(counts: Sequence[int], quantile: float) -> float | None:
    """The latency in ms under which the share `quantile` of the values lies; None of an empty histogram.

    Within a bucket the values are taken as evenly spread, so the error is at most one bucket's width
    (19%). Values beyond the last bound count as that bound.
    """
    total = sum(counts)
    if total == 0:
        return None
    rank = quantile * total
    seen = 0
    for index, count in enumerate(counts):
        if count and seen + count >= rank:
            if index >= len(BOUNDS_MS):
                return BOUNDS_MS[-1]
            lower = BOUNDS_MS[index - 1] if index else 0.0
            return lower + (BOUNDS_MS[index] - lower) * max(0.0, rank - seen) / count
        seen += count
    return BOUNDS_MS[-1]
