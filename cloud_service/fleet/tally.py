"""Counts that add and subtract exactly. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
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


class TallySum:
    """Adds many tallies up in place, which is several times faster than one by one."""

    def __init__(self) -> None:
        self._counters = [0] * len(COUNTER_NAMES)
        self._buckets: dict[str, dict[int, int]] = {}
        self._sums_ms: dict[str, float] = {}
        self._reasons: dict[str, int] = {}

    def add(self, tally: Tally) -> None:
        """Add one."""
        self._counters = list(map(add, self._counters, counter_values(tally.counters)))
        for outcome, histogram in tally.latency.items():
            _add_to(self._buckets.setdefault(outcome, {}), histogram.counts)
            self._sums_ms[outcome] = self._sums_ms.get(outcome, 0.0) + histogram.sum_ms
        _add_to(self._reasons, tally.reasons)

    def tally(self) -> Tally:
        """The sum so far."""
        latency = {
            outcome: SparseHistogram(dict(counts), self._sums_ms[outcome]) for outcome, counts in self._buckets.items()
        }
        return Tally(RequestCounters(*self._counters), latency, dict(self._reasons))


def total(tallies: Iterable[Tally]) -> Tally:
    """The sum of all."""
    result = TallySum()
    for tally in tallies:
        result.add(tally)
    return result.tally()


def sparse(histogram: LatencyHistogram) -> SparseHistogram:
    """The same histogram without its zeros."""
    return SparseHistogram({index: count for index, count in enumerate(histogram.counts) if count}, histogram.sum_ms)


def _added(left: Mapping[_Key, int], right: Mapping[_Key, int]) -> Mapping[_Key, int]:
    if not right:
        return left
    result = dict(left)
    _add_to(result, right)
    return result


def _add_to(target: dict[_Key, int], more: Mapping[_Key, int]) -> None:
    for key, count in more.items():
        target[key] = target.get(key, 0) + count


def _subtracted(left: Mapping[_Key, int], right: Mapping[_Key, int]) -> dict[_Key, int]:
    result = {key: count - right.get(key, 0) for key, count in left.items()}
    result.update({key: -count for key, count in right.items() if key not in left})
    return {key: count for key, count in result.items() if count}
