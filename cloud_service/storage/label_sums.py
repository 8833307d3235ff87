"""Adds counts up by label. A year of days holds hundreds of thousands of them, in texts of JSON.

Each text is parsed by itself, so that it is gone before the collector of garbage looks for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from cloud_service.dashboard.offload_question import Choices, OffloadQuestion, OffloadReading, Slice
from cloud_service.dashboard.offload_statistics import Share
from cloud_service.storage.offload_sums import parted
from shared.types import LabelCounts

_COUNTS = len(fields(LabelCounts))
_DRAWN = 2
"""The first of them, requests accepted and wanted, are told for each bucket."""


@dataclass(frozen=True)
class LabelSums:
    """`course` [starts, labels, 2]: requests accepted and wanted of each bucket; `totals` [labels, counts]: of all.

    The counts are in the order of the fields of `LabelCounts`. Only requests that the device answered have a label.
    """

    starts: tuple[int, ...]
    labels: tuple[str, ...]
    course: NDArray[np.int64]
    totals: NDArray[np.int64]

    @property
    def size_bytes(self) -> int:
        """About what it takes of memory."""
        return self.course.nbytes + self.totals.nbytes + 100 * len(self.labels) + 40 * len(self.starts)

    def __add__(self, other: LabelSums) -> LabelSums:
        starts = tuple(sorted({*self.starts, *other.starts}))
        labels = tuple(dict.fromkeys([*self.labels, *other.labels]))
        sums = _zeros(starts, labels)
        for part in (self, other):
            rows = np.searchsorted(np.array(starts, np.int64), np.array(part.starts, np.int64))
            place = {label: index for index, label in enumerate(labels)}
            columns = np.array([place[label] for label in part.labels], np.intp)
            sums.course[np.ix_(rows, columns)] += part.course
            sums.totals[columns] += part.totals
        return sums

    def reading(self, question: OffloadQuestion, choices: Choices) -> OffloadReading:
        """The answer: counts of each label."""
        slices = [_slice(label, totals) for label, totals in zip(self.labels, self.totals.tolist(), strict=True)]
        reading = parted(slices, _slice("", self.totals.sum(axis=0).tolist()), question, choices)
        place = {label: index for index, label in enumerate(self.labels)}
        drawn = tuple(
            replace(each, shares=_shares(self.course[:, place[each.value]], self.starts)) for each in reading.slices
        )
        whole = replace(reading.whole, shares=_shares(self.course.sum(axis=1), self.starts))
        return replace(reading, slices=drawn, whole=whole)


def label_sums(rows: Iterable[Any]) -> LabelSums:
    """Of rows of begin and labels, which mostly tell of the same labels in turn."""
    told = list(rows)
    starts = sorted({row[0] for row in told})
    places = {start: place for place, start in enumerate(starts)}
    index: dict[str, int] = {}
    names: list[str] = []
    columns: NDArray[np.intp] | slice = slice(0, 0)
    sums = np.zeros((len(starts), 0, _COUNTS), np.int64)
    for start, text in told:
        labels = from_json(text)
        if list(labels) != names:
            names = list(labels)
            columns = _columns([index.setdefault(name, len(index)) for name in names])
            more = np.zeros((len(starts), len(index) - sums.shape[1], _COUNTS), np.int64)
            sums = np.concatenate([sums, more], axis=1) if more.size else sums
        flat = np.fromiter(chain.from_iterable(labels.values()), np.int64, len(names) * _COUNTS)
        sums[places[start], columns] += flat.reshape(-1, _COUNTS)
    return LabelSums(tuple(starts), tuple(index), sums[:, :, :_DRAWN].copy(), sums.sum(axis=0))


NO_LABELS = label_sums([])


def _zeros(starts: tuple[int, ...], labels: tuple[str, ...]) -> LabelSums:
    shape = len(starts), len(labels)
    return LabelSums(starts, labels, np.zeros((*shape, _DRAWN), np.int64), np.zeros((shape[1], _COUNTS), np.int64))


def _columns(indices: list[int]) -> NDArray[np.intp] | slice:
    """A slice where they follow one another, which is added to much faster."""
    first, end = (indices[0], indices[0] + len(indices)) if indices else (0, 0)
    return slice(first, end) if indices == list(range(first, end)) else np.array(indices, np.intp)


def _slice(label: str, totals: Sequence[int]) -> Slice:
    counts = LabelCounts(*totals)
    return Slice(label, Share(counts.wanted, counts.accepted), label=counts)


def _shares(course: NDArray[np.int64], starts: Sequence[int]) -> dict[int, Share]:
    """`course` [starts, 2]."""
    pairs = zip(starts, course.tolist(), strict=True)
    return {start: Share(wanted, accepted) for start, (accepted, wanted) in pairs if accepted or wanted}
