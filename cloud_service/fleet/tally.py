"""Counts that add and subtract exactly. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from operator import add, attrgetter, sub
from typing import TypeVar

from shared.histogram import BOUNDS_MS, quantile_ms
from shared.types import AuditCounts, LabelCounts, LatencyHistogram, RequestCounters

COUNTER_NAMES = tuple(each.name for each in fields(RequestCounters))
counter_values = attrgetter(*COUNTER_NAMES)
"""A `RequestCounters` as a tuple, in the order of `COUNTER_NAMES`."""
AUDIT_NAMES = tuple(each.name for each in fields(AuditCounts))
AUDIT_COLUMNS = tuple(f"audit_{name}" for name in AUDIT_NAMES)
audit_values = attrgetter(*AUDIT_NAMES)
"""An `AuditCounts` as a tuple, in the order of `AUDIT_NAMES`."""
label_values = attrgetter(*(each.name for each in fields(LabelCounts)))
"""A `LabelCounts` as a tuple, in the order of its fields."""

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


_NO_LABEL = LabelCounts()
_NO_AUDITS = AuditCounts()


@dataclass(frozen=True)
class Tally:
    """What happened over some time: counters, latencies by outcome, requests by reason, audits, and counts by label.

    `in_flight`, `calls_in_flight` and the audits' `in_flight` are the change over that time and may be negative; so
    the identities of `RequestCounters` and `AuditCounts` hold for every sum of tallies.
    """

    counters: RequestCounters = field(default_factory=RequestCounters)
    latency: Mapping[str, SparseHistogram] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)
    audits: AuditCounts = _NO_AUDITS
    labels: Mapping[str, LabelCounts] = field(default_factory=dict)

    def __add__(self, other: Tally) -> Tally:
        if self is NOTHING:
            return other
        latency = dict(self.latency)
        for outcome, histogram in other.latency.items():
            latency[outcome] = latency[outcome] + histogram if outcome in latency else histogram
        values = map(add, counter_values(self.counters), counter_values(other.counters))
        return Tally(
            RequestCounters(*values),
            latency,
            _added(self.reasons, other.reasons),
            _audits_added(self.audits, other.audits),
            _labels_added(self.labels, other.labels),
        )

    def __sub__(self, other: Tally) -> Tally:
        latency = {}
        for outcome in (*self.latency, *(outcome for outcome in other.latency if outcome not in self.latency)):
            left = self.latency.get(outcome, _EMPTY_HISTOGRAM) - other.latency.get(outcome, _EMPTY_HISTOGRAM)
            if left.counts:
                latency[outcome] = left
        values = map(sub, counter_values(self.counters), counter_values(other.counters))
        audits = _NO_AUDITS
        if self.audits != other.audits:
            audits = AuditCounts(*map(sub, audit_values(self.audits), audit_values(other.audits)))
        return Tally(
            RequestCounters(*values),
            latency,
            _subtracted(self.reasons, other.reasons),
            audits,
            _labels_subtracted(self.labels, other.labels),
        )

    @property
    def is_nothing(self) -> bool:
        """Whether every count is zero."""
        return not (
            any(counter_values(self.counters))
            or self.latency
            or self.reasons
            or any(audit_values(self.audits))
            or self.labels
        )

    def without_labels(self) -> Tally:
        """The same, not told apart by label."""
        return Tally(self.counters, self.latency, self.reasons, self.audits) if self.labels else self


NOTHING = Tally()


class TallySum:
    """Adds many tallies up in place, which is several times faster than one by one."""

    def __init__(self) -> None:
        self._counters = [0] * len(COUNTER_NAMES)
        self._audits = [0] * len(AUDIT_NAMES)
        self._buckets: dict[str, dict[int, int]] = {}
        self._sums_ms: dict[str, float] = {}
        self._reasons: dict[str, int] = {}
        self._labels: dict[str, tuple[int, ...]] = {}

    def add(self, tally: Tally) -> None:
        """Add one."""
        self._counters = list(map(add, self._counters, counter_values(tally.counters)))
        if tally.audits is not _NO_AUDITS:
            self._audits = list(map(add, self._audits, audit_values(tally.audits)))
        for outcome, histogram in tally.latency.items():
            _add_to(self._buckets.setdefault(outcome, {}), histogram.counts)
            self._sums_ms[outcome] = self._sums_ms.get(outcome, 0.0) + histogram.sum_ms
        _add_to(self._reasons, tally.reasons)
        for label, counts in tally.labels.items():
            before, more = self._labels.get(label), label_values(counts)
            self._labels[label] = more if before is None else tuple(map(add, before, more))

    def tally(self) -> Tally:
        """The sum so far."""
        latency = {
            outcome: SparseHistogram(dict(counts), self._sums_ms[outcome]) for outcome, counts in self._buckets.items()
        }
        labels = {label: LabelCounts(*values) for label, values in self._labels.items()}
        return Tally(RequestCounters(*self._counters), latency, dict(self._reasons), AuditCounts(*self._audits), labels)


def total(tallies: Iterable[Tally]) -> Tally:
    """The sum of all."""
    result = TallySum()
    for tally in tallies:
        result.add(tally)
    return result.tally()


def sparse(histogram: LatencyHistogram) -> SparseHistogram:
    """The same histogram without its zeros."""
    if not any(histogram.counts):
        return SparseHistogram({}, histogram.sum_ms)
    return SparseHistogram({index: count for index, count in enumerate(histogram.counts) if count}, histogram.sum_ms)


def _added(left: Mapping[_Key, int], right: Mapping[_Key, int]) -> Mapping[_Key, int]:
    if not right:
        return left
    result = dict(left)
    _add_to(result, right)
    return result


def _add_to(target: dict[_Key, int], more: Mapping[_Key, int]) -> None:
    for key, count in more.items():
        if key in target:
            target[key] += count
        else:
            target[key] = count


def _subtracted(left: Mapping[_Key, int], right: Mapping[_Key, int]) -> dict[_Key, int]:
    result = {key: grown for key, count in left.items() if (grown := count - right.get(key, 0))}
    if not right.keys() <= left.keys():
        result.update({key: -count for key, count in right.items() if count and key not in left})
    return result


def _audits_added(left: AuditCounts, right: AuditCounts) -> AuditCounts:
    if right is _NO_AUDITS:
        return left
    return AuditCounts(*map(add, audit_values(left), audit_values(right)))


def _labels_added(left: Mapping[str, LabelCounts], right: Mapping[str, LabelCounts]) -> Mapping[str, LabelCounts]:
    if not right:
        return left
    result = dict(left)
    for label, counts in right.items():
        before = result.get(label)
        more = counts if before is None else LabelCounts(*map(add, label_values(before), label_values(counts)))
        result[label] = more
    return result


def _labels_subtracted(left: Mapping[str, LabelCounts], right: Mapping[str, LabelCounts]) -> dict[str, LabelCounts]:
    result = {}
    for label in (*left, *(label for label in right if label not in left)):
        now, before = left.get(label, _NO_LABEL), right.get(label, _NO_LABEL)
        if now != before:
            result[label] = LabelCounts(*map(sub, label_values(now), label_values(before)))
    return result


def p99_ms(tally: Tally) -> float | None:
    """The 99th percentile of latency over all outcomes, in ms; None where no request ended."""
    counts = [0] * (len(BOUNDS_MS) + 1)
    for histogram in tally.latency.values():
        for index, number in histogram.counts.items():
            counts[index] += number
    return quantile_ms(counts, 0.99)
