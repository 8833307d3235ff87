"""Adds counts up by one dimension: what the store has not added up itself are texts of JSON."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from operator import add
from typing import Any

from pydantic_core import from_json

from cloud_service.dashboard.offload_address import Dimension
from cloud_service.dashboard.offload_question import Choices, OffloadQuestion, OffloadReading, Slice
from cloud_service.dashboard.offload_statistics import Share
from cloud_service.dashboard.ranges import Axis
from cloud_service.fleet.tally import AUDIT_COLUMNS, COUNTER_NAMES, SparseHistogram, Tally, label_values
from shared.histogram import BOUNDS_MS
from shared.types import AuditCounts, LabelCounts, RequestCounters

_COUNTERS, _AUDITS = len(COUNTER_NAMES), len(AUDIT_COLUMNS)
_NO_SHARE = Share(0, 0)
Rows = Iterable[Any]
"""Rows of a query, each a tuple in the order that the class says."""


class DimensionSums:
    """Takes slices, one for each value. Without `whole` the whole is their sum."""

    def __init__(self, slices: Sequence[Slice], whole: Slice | None = None) -> None:
        self._slices = list(slices)
        self._whole = whole

    def reading(
        self, question: OffloadQuestion, choices: Choices, *, known: int = 0, ranked: Axis | None = None
    ) -> OffloadReading:
        """The answer. `known`: how many values there are, added or not."""
        shown = _chosen(self._slices, question)
        whole = self._whole or together("", self._slices)
        others = max(known, len(self._slices)) - len(shown)
        rest = _less(whole, shown) if others > 0 else None
        return OffloadReading(tuple(shown), rest, max(0, others), whole, choices, ranked)


def reasons_reading(rows: Rows, question: OffloadQuestion, choices: Choices) -> OffloadReading:
    """From rows of begin, requests received, reasons: the requests of each reason, of all received."""
    received: dict[int, int] = defaultdict(int)
    by_reason: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for start, number, text in rows:
        received[start] += number
        for reason, requests in from_json(text).items():
            by_reason[reason][start] += requests
    whole = sum(received.values())
    slices = [
        Slice(reason, Share(sum(starts.values()), whole), {at: Share(n, received[at]) for at, n in starts.items()})
        for reason, starts in by_reason.items()
    ]
    ended = sum(each.share.part for each in slices)
    return parted(slices, Slice("", Share(ended, whole)), question, choices)


def merged_latency(texts: Iterable[str]) -> SparseHistogram:
    """The latencies of many rows, all outcomes together."""
    counts = [0] * (len(BOUNDS_MS) + 1)
    sum_ms = 0.0
    for text in texts:
        for outcome_ms, buckets, numbers in from_json(text).values():
            sum_ms += outcome_ms
            for bucket, number in zip(buckets, numbers, strict=True):
                counts[bucket] += number
    return SparseHistogram({bucket: number for bucket, number in enumerate(counts) if number}, sum_ms)


def slices_of(rows: Rows) -> list[Slice]:
    """From rows of value, sums of counters and audits, course, latencies; one row for each value.

    `course`: begin, wanted and accepted of each row in turn, with commas; `latencies`: one JSON text a line.
    """
    return [_slice(*row) for row in rows]


def _slice(value: str, *told: Any) -> Slice:
    """PostgreSQL's sums are decimal numbers."""
    *figures, course, latencies = told
    sums = [int(each) for each in figures]
    counters, audits = RequestCounters(*sums[:_COUNTERS]), AuditCounts(*sums[_COUNTERS:])
    tally = Tally(counters, {"all": merged_latency(latencies.split("\n"))}, {}, audits)
    return Slice(value, Share(counters.wanted, counters.accepted), _course_of(course), tally)


def _course_of(course: str) -> dict[int, Share]:
    """A value may have several rows that begin together: of rings, or of model versions."""
    numbers: list[int] = from_json(f"[{course}]")
    shares: dict[int, Share] = {}
    for start, wanted, accepted in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True):
        before = shares.get(start, _NO_SHARE)
        shares[start] = Share(before.part + wanted, before.whole + accepted)
    return shares


def _chosen(slices: list[Slice], question: OffloadQuestion) -> list[Slice]:
    """The first of those where anything was counted, and those asked for by name."""
    counted = [each for each in slices if each.share.whole or each.share.part or each.value in question.named]
    ordered = sorted(counted, key=lambda each: (-each.share.part, -each.share.whole, each.value))
    named = [each for each in ordered[question.top :] if each.value in question.named]
    return ordered[: question.top] + named


def parted(slices: list[Slice], whole: Slice, question: OffloadQuestion, choices: Choices) -> OffloadReading:
    """The values shown, and the others together."""
    shown = _chosen(slices, question)
    others = [each for each in slices if each not in shown]
    rest = together("", others) if others else None
    if rest is not None and question.by is Dimension.REASON:
        rest = Slice("", Share(rest.share.part, whole.share.whole))
    return OffloadReading(tuple(shown), rest, len(others), whole, choices)


def together(value: str, slices: Iterable[Slice]) -> Slice:
    """The sum, which stands for `value`."""
    share, tally = Share(0, 0), Tally()
    label: LabelCounts | None = None
    shares: dict[int, Share] = {}
    for each in slices:
        share = Share(share.part + each.share.part, share.whole + each.share.whole)
        for start, more in each.shares.items():
            before = shares.get(start, Share(0, 0))
            shares[start] = Share(before.part + more.part, before.whole + more.whole)
        if each.label is not None:
            label = LabelCounts(*map(add, label_values(label or LabelCounts()), label_values(each.label)))
        if each.tally is not None:
            tally = tally + each.tally
    return Slice(value, share, shares, tally if label is None else None, label)


def _less(whole: Slice, shown: Iterable[Slice]) -> Slice:
    tally = whole.tally or Tally()
    for each in shown:
        if each.tally is not None:
            tally = tally - each.tally
    return Slice("", Share(tally.counters.wanted, tally.counters.accepted), tally=tally)
