"""Which devices wanted most: chosen by a few coarse buckets, so that the cost is bounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Select, String, cast, func, literal_column, select

from cloud_service.dashboard.offload_address import Filter
from cloud_service.dashboard.ranges import Axis
from cloud_service.fleet.buckets import DAY_S, HOUR_S, WHOLE_FLEET
from cloud_service.lru_cache import LruCache
from cloud_service.storage import tables
from cloud_service.storage.counts_query import filtered
from cloud_service.storage.settled_slices import settled_part

_HOURS_RANKED_S = 6 * HOUR_S
_DAYS_RANKED_S = 7 * DAY_S
_MOST_DEVICES = 100_000
_COLUMNS = tables.counts.c


@dataclass(frozen=True)
class Ranking:
    """The devices that wanted most over `axis`, and how many `known` ones were counted there."""

    axis: Axis
    best: tuple[str, ...]
    known: int


@dataclass(frozen=True)
class _Sums:
    """`figures` [devices, 2]: what each wanted, and accepted; `places`: by device its row."""

    places: Mapping[str, int]
    figures: NDArray[np.int64]

    def and_more(self, told: str) -> _Sums:
        """With more counts: device, wanted, accepted and so on, with commas."""
        values = told.split(",") if told else []
        names, places = values[::3], self.places
        if new := dict.fromkeys(name for name in names if name not in places):
            places = {**places, **{name: place for place, name in enumerate(new, len(places))}}
        figures = np.zeros((len(places), 2), np.int64)
        figures[: len(self.figures)] = self.figures
        more = np.array([values[1::3], values[2::3]], dtype=object).astype(np.int64).T
        np.add.at(figures, np.fromiter(map(places.__getitem__, names), np.intp, len(names)), more)
        return _Sums(places, figures)

    def best(self, top: int) -> tuple[str, ...]:
        """Those that wanted most; of equal ones who accepted most, then by name."""
        if not top or not self.places:
            return ()
        wanted, accepted = self.figures.T
        order = np.lexsort((-accepted, -wanted))
        last = self.figures[order[min(top, len(order)) - 1]]
        is_candidate = (wanted > last[0]) | ((wanted == last[0]) & (accepted >= last[1]))
        names = list(self.places)
        found = [(-wanted[place], -accepted[place], names[place]) for place in np.flatnonzero(is_candidate)]
        return tuple(name for _, _, name in sorted(found)[:top])


_NONE = _Sums({}, np.zeros((0, 2), np.int64))


class DeviceRanking:
    """Remembers what days that have ended come to, of some 100,000 devices: about 20 MB."""

    def __init__(self, most_devices: int = _MOST_DEVICES) -> None:
        self._settled: LruCache[tuple[Axis, Filter], _Sums] = LruCache(most_devices, lambda each: len(each.places))

    def read(self, connection: Connection, axis: Axis, wanted: Filter, top: int, written_s: int) -> Ranking:
        """The first `top` devices of `axis`, which is made coarser; the fleet service wrote last at `written_s`."""
        ranked = _ranking_axis(axis)
        past = settled_part(ranked, written_s)
        sums = self._past(connection, past, wanted) if past.span_s else _NONE
        rest = replace(ranked, since_s=past.until_s)
        sums = sums.and_more(_told(connection, rest, wanted)) if rest.span_s else sums
        return Ranking(ranked, sums.best(top), len(sums.places))

    def _past(self, connection: Connection, past: Axis, wanted: Filter) -> _Sums:
        found = self._settled.get((past, wanted))
        if found is None:
            found = _NONE.and_more(_told(connection, past, wanted))
            self._settled.put((past, wanted), found)
        return found


def _told(connection: Connection, axis: Axis, wanted: Filter) -> str:
    told: str | None = connection.execute(_counted(axis, wanted)).scalar()
    return told or ""


def _ranking_axis(axis: Axis) -> Axis:
    """The hours that `axis` touches, or the days, the newest seven of them at most."""
    width_s, most_s = (HOUR_S, _HOURS_RANKED_S) if axis.span_s <= _HOURS_RANKED_S else (DAY_S, _DAYS_RANKED_S)
    until_s = -(-axis.until_s // width_s) * width_s
    since_s = axis.since_s - axis.since_s % width_s
    return Axis(since_s if width_s == HOUR_S else max(since_s, until_s - most_s), until_s, width_s)


def _counted(axis: Axis, wanted: Filter) -> Select[Any]:
    """Device, wanted and accepted of each row, put together by the store: ten thousand rows one by one take longer.

    The width stands in the text: so SQLite sees that its partial index holds.
    """
    want, accepted = (cast(_COLUMNS[name], String) for name in ("wanted", "accepted"))
    return select(func.aggregate_strings(_COLUMNS.device_id + "," + want + "," + accepted, ",")).where(
        _COLUMNS.width_s == literal_column(str(axis.width_s)),
        _COLUMNS.starts_s >= axis.since_s,
        _COLUMNS.starts_s < axis.until_s,
        _COLUMNS.device_id != WHOLE_FLEET,
        *filtered(wanted),
    )
