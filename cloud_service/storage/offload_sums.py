"""Adds rows of counts up by one dimension. Many short texts of JSON are parsed at once, which is much faster."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from itertools import chain
from operator import add
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from cloud_service.dashboard.offload_address import Dimension
from cloud_service.dashboard.offload_question import Choices, OffloadQuestion, OffloadReading, Slice
from cloud_service.dashboard.offload_statistics import Share
from cloud_service.dashboard.ranges import Axis
from cloud_service.fleet.tally import AUDIT_COLUMNS, COUNTER_NAMES, SparseHistogram, Tally, label_values
from shared.histogram import BOUNDS_MS
from shared.types import AuditCounts, LabelCounts, RequestCounters

_COUNTERS, _AUDITS = len(COUNTER_NAMES), len(AUDIT_COLUMNS)
_LABEL_COUNTS = len(fields(LabelCounts))
_ACCEPTED, _WANTED = COUNTER_NAMES.index("accepted"), COUNTER_NAMES.index("wanted")
Rows = Iterable[Any]
"""Rows of a query, each a tuple in the order that the class says."""


class Sums(Protocol):
    """What is added up row by row."""

    def add_all(self, rows: Rows) -> None:
        """Add rows."""
        ...

    def reading(self, question: OffloadQuestion, choices: Choices) -> OffloadReading:
        """The answer."""
        ...


class _Sum:
    """One value's sum."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.figures: list[list[int]] = []
        self.latencies: list[str] = []

    def add(self, start: int, figures: list[int], latency: str) -> None:
        self.starts.append(start)
        self.figures.append(figures)
        self.latencies.append(latency)

    def slice(self, value: str) -> Slice:
        rows = np.array(self.figures, np.int64).reshape(-1, _COUNTERS + _AUDITS)
        sums: list[int] = rows.sum(axis=0).tolist()
        counters, audits = RequestCounters(*sums[:_COUNTERS]), AuditCounts(*sums[_COUNTERS:])
        tally = Tally(counters, {"all": merged_latency(self.latencies)}, {}, audits)
        return Slice(value, Share(sums[_WANTED], sums[_ACCEPTED]), self._shares(rows), tally)

    def _shares(self, rows: NDArray[np.int64]) -> dict[int, Share]:
        """`rows` [rows, counters and audits]."""
        starts, places = np.unique(np.array(self.starts, np.int64), return_inverse=True)
        pairs = np.zeros((len(starts), 2), np.int64)
        np.add.at(pairs, places, rows[:, [_WANTED, _ACCEPTED]])
        return {start: Share(*pair) for start, pair in zip(starts.tolist(), pairs.tolist(), strict=True)}


class DimensionSums:
    """Takes rows of value, begin, counters, audits, latency. Without `add_whole` the whole is the sum of all rows."""

    def __init__(self) -> None:
        self._sums: dict[str, _Sum] = defaultdict(_Sum)
        self._whole: _Sum | None = None

    def add_all(self, rows: Rows) -> None:
        """Add rows, each to its value."""
        for value, start, *figures, latency in rows:
            self._sums[value].add(start, figures, latency)

    def add_whole(self, rows: Rows) -> None:
        """Rows that make up the whole, whatever their value."""
        self._whole = _Sum()
        for _, start, *figures, latency in rows:
            self._whole.add(start, figures, latency)

    def reading(
        self, question: OffloadQuestion, choices: Choices, *, known: int = 0, ranked: Axis | None = None
    ) -> OffloadReading:
        """The answer. `known`: how many values there are, added or not."""
        slices = [each.slice(value) for value, each in self._sums.items()]
        shown = _chosen(slices, question)
        whole = self._whole.slice("") if self._whole else _together("", slices)
        others = max(known, len(slices)) - len(shown)
        rest = _less(whole, shown) if others > 0 else None
        return OffloadReading(tuple(shown), rest, max(0, others), whole, choices, ranked)


class ReasonSums:
    """Takes rows of begin, requests received, reasons."""

    def __init__(self) -> None:
        self._rows: list[Any] = []

    def add_all(self, rows: Rows) -> None:
        """Add rows."""
        self._rows.extend(rows)

    def reading(self, question: OffloadQuestion, choices: Choices) -> OffloadReading:
        """The answer: requests of each reason, of all received."""
        received: dict[int, int] = defaultdict(int)
        by_reason: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        for (start, number, _), reasons in zip(self._rows, _parsed(row[2] for row in self._rows), strict=True):
            received[start] += number
            for reason, requests in reasons.items():
                by_reason[reason][start] += requests
        whole = sum(received.values())
        slices = [
            Slice(reason, Share(sum(starts.values()), whole), {at: Share(n, received[at]) for at, n in starts.items()})
            for reason, starts in by_reason.items()
        ]
        ended = sum(each.share.part for each in slices)
        return _parted(slices, Slice("", Share(ended, whole)), question, choices)


class LabelSums:
    """Takes rows of begin, requests accepted, labels. Only requests that the device answered have a label.

    A year of days holds hundreds of thousands of counts: each row is parsed by itself, so that it is gone before the
    collector of garbage looks for it.
    """

    def __init__(self) -> None:
        self._rows: list[Any] = []

    def add_all(self, rows: Rows) -> None:
        """Add rows."""
        self._rows.extend(rows)

    def reading(self, question: OffloadQuestion, choices: Choices) -> OffloadReading:
        """The answer: counts of each label."""
        starts = sorted({row[0] for row in self._rows})
        index, sums = self._sums({start: place for place, start in enumerate(starts)})
        slices = [_label_slice(name, sums[place]) for name, place in index.items()]
        whole = _label_slice("", sums.sum(axis=0))
        reading = _parted(slices, whole, question, choices)
        drawn = tuple(replace(each, shares=_shares(sums[index[each.value]], starts)) for each in reading.slices)
        return replace(reading, slices=drawn, whole=replace(whole, shares=_shares(sums.sum(axis=0), starts)))

    def _sums(self, columns: Mapping[int, int]) -> tuple[dict[str, int], NDArray[np.int64]]:
        """By label the place in the sums [labels, starts, counts]."""
        index: dict[str, int] = {}
        names: list[str] = []
        places = np.zeros(0, np.intp)
        sums = np.zeros((0, len(columns), _LABEL_COUNTS), np.int64)
        for start, _, text in self._rows:
            labels = from_json(text)
            if list(labels) != names:
                names = list(labels)
                places = np.array([index.setdefault(name, len(index)) for name in names], np.intp)
                more = np.zeros((len(index) - len(sums), *sums.shape[1:]), np.int64)
                sums = np.concatenate([sums, more]) if len(more) else sums
            told = np.fromiter(chain.from_iterable(labels.values()), np.int64, len(names) * _LABEL_COUNTS)
            sums[places, columns[start]] += told.reshape(-1, _LABEL_COUNTS)
        return index, sums


def merged_latency(texts: Iterable[str]) -> SparseHistogram:
    """The latencies of many rows, all outcomes together."""
    told = [each for latency in _parsed(texts) for each in latency.values()]
    counts = np.zeros(len(BOUNDS_MS) + 1, np.int64)
    buckets = np.array(list(chain.from_iterable(each[1] for each in told)), np.intp)
    np.add.at(counts, buckets, np.array(list(chain.from_iterable(each[2] for each in told)), np.int64))
    places = np.flatnonzero(counts).tolist()
    return SparseHistogram({place: int(counts[place]) for place in places}, sum(each[0] for each in told))


def _parsed(texts: Iterable[str]) -> list[Any]:
    parsed: list[Any] = from_json("[" + ",".join(texts) + "]")
    return parsed


def _label_slice(label: str, sums: NDArray[np.int64]) -> Slice:
    """`sums` [starts, counts]: the latter in the order of the fields of `LabelCounts`."""
    counts = LabelCounts(*sums.sum(axis=0).tolist())
    return Slice(label, Share(counts.wanted, counts.accepted), label=counts)


def _shares(sums: NDArray[np.int64], starts: Sequence[int]) -> dict[int, Share]:
    pairs = zip(starts, sums[:, :2].tolist(), strict=True)
    return {start: Share(wanted, accepted) for start, (accepted, wanted) in pairs if accepted or wanted}


def _chosen(slices: list[Slice], question: OffloadQuestion) -> list[Slice]:
    """The first of those where anything was counted, and those asked for by name."""
    counted = [each for each in slices if each.share.whole or each.share.part or each.value in question.named]
    ordered = sorted(counted, key=lambda each: (-each.share.part, -each.share.whole, each.value))
    named = [each for each in ordered[question.top :] if each.value in question.named]
    return ordered[: question.top] + named


def _parted(slices: list[Slice], whole: Slice, question: OffloadQuestion, choices: Choices) -> OffloadReading:
    shown = _chosen(slices, question)
    others = [each for each in slices if each not in shown]
    rest = _together("", others) if others else None
    if rest is not None and question.by is Dimension.REASON:
        rest = Slice("", Share(rest.share.part, whole.share.whole))
    return OffloadReading(tuple(shown), rest, len(others), whole, choices)


def _together(value: str, slices: Iterable[Slice]) -> Slice:
    """The sum."""
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
