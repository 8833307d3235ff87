"""Counts that add and subtract exactly. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import reduce
from operator import add, attrgetter, sub
from typing import TypeVar

from shared.histogram import BOUNDS_MS
from shared.types import LatencyHistogram, RequestCounters

COUNTER_NAMES = tuple(each.name for each in fields(RequestCounters))
counter_values = attrgetter(*COUNTER_NAMES)
"""A `RequestCounters` as a tuple, in the order of `COUNTER_NAMES`."""

_Key = TypeVar("_Key", str, int)


@dataclass(frozen=True)
class SparseHistogram:
    """Counts by bucket index of `shared.histogram.BOUNDS_MS`, zeros left out, and the sum of all values in ms."""

    counts: Mapping[int, int]
    sum_ms: float = 0.0

    def __add__(self, other: SparseHistogram) -> SparseHistogram:
        return SparseHistogram(_added(self.counts, other.counts), self.sum_ms + other.sum_ms)

    def __sub__(self, other: SparseHistogram) -> SparseHistogram:
        return SparseHistogram(_subtracted(self.counts, other.counts), self.sum_ms - other.sum_ms)

    def dense(self) -> list[int]:
        """One count for each bucket, as `shared.histogram.quantile_ms` takes them."""
        counts = [0] * (len(BOUNDS_MS) + 1)
        for index, count in self.counts.items():
            counts[index] += count
        return counts


_EMPTY_HISTOGRAM = SparseHistogram({})


@dataclass(frozen=True)
class Tally:
    """What happened over some time: counters, latencies by outcome, and requests by reason.

    `in_flight` and `calls_in_flight` are the change over that time and may be negative; so the identities of
    `RequestCounters` hold for every sum of tallies.
    """

    counters: RequestCounters = field(default_factory=RequestCounters)
    latency: Mapping[str, SparseHistogram] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Tally) -> Tally:
        latency = dict(self.latency)
        for outcome, histogram in other.latency.items():
            latency[outcome] = latency[outcome] + histogram if outcome in latency else histogram
        values = map(add, counter_values(self.counters), counter_values(other.counters))
        return Tally(RequestCounters(*values), latency, _added(self.reasons, other.reasons))

    def __sub__(self, other: Tally) -> Tally:
        latency = {}
        for outcome in (*self.latency, *(outcome for outcome in other.latency if outcome not in self.latency)):
            left = self.latency.get(outcome, _EMPTY_HISTOGRAM) - other.latency.get(outcome, _EMPTY_HISTOGRAM)
            if left.counts:
                latency[outcome] = left
        values = map(sub, counter_values(self.counters), counter_values(other.counters))
        return Tally(RequestCounters(*values), latency, _subtracted(self.reasons, other.reasons))

    @property
    def is_nothing(self) -> bool:
        """Whether every count is zero."""
        return not (any(counter_values(self.counters)) or self.latency or self.reasons)


NOTHING = Tally()


def total(tallies: Iterable[Tally]) -> Tally:
    """The sum of all."""
    return reduce(add, tallies, NOTHING)


def sparse(histogram: LatencyHistogram) -> SparseHistogram:
    """The same histogram without its zeros."""
    return SparseHistogram({index: count for index, count in enumerate(histogram.counts) if count}, histogram.sum_ms)


def _added(left: Mapping[_Key, int], right: Mapping[_Key, int]) -> Mapping[_Key, int]:
    if not right:
        return left
    result = dict(left)
    for key, count in right.items():
        result[key] = result.get(key, 0) + count
    return result


def _subtracted(left: Mapping[_Key, int], right: Mapping[_Key, int]) -> dict[_Key, int]:
    result = {key: count - right.get(key, 0) for key, count in left.items()}
    result.update({key: -count for key, count in right.items() if key not in left})
    return {key: count for key, count in result.items() if count}
