"""The store as the Offload page reads it. Blocking: call from a worker thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Select, String, cast, func, select

from cloud_service.dashboard.offload_address import Dimension, Filter
from cloud_service.dashboard.offload_question import Choices, OffloadQuestion, OffloadReading, Slice
from cloud_service.dashboard.offload_statistics import Share
from cloud_service.dashboard.ranges import Axis
from cloud_service.fleet.buckets import ALL_TIME_S, WHOLE_FLEET
from cloud_service.fleet.tally import AUDIT_COLUMNS, COUNTER_NAMES, NOTHING
from cloud_service.lru_cache import LruCache
from cloud_service.storage import tables
from cloud_service.storage.counts_query import within
from cloud_service.storage.device_ranking import DeviceRanking
from cloud_service.storage.label_sums import NO_LABELS, LabelSums, label_sums
from cloud_service.storage.offload_sums import DimensionSums, reasons_reading, slices_of, together
from cloud_service.storage.read_only_store import ReadOnlyStore
from cloud_service.storage.settled_slices import SettledSlices, settled_part

_MOST_LABEL_BYTES = 32_000_000
_COLUMNS = tables.counts.c


class OffloadReader:
    """Reads only, from any process. What is settled it reads once and remembers, the rest it reads each time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._store = ReadOnlyStore(engine)
        self._slices = SettledSlices()
        self._ranking = DeviceRanking()
        self._labels: LruCache[tuple[Axis, Filter], LabelSums] = LruCache(
            _MOST_LABEL_BYTES, lambda each: each.size_bytes
        )

    def read(self, question: OffloadQuestion) -> OffloadReading | None:
        """One consistent look; None while the fleet service has not set up the store.

        Raises:
            StorageError: the store cannot be read.
        """
        with self._store.look() as connection:
            if connection is None:
                return None
            choices = _choices(connection)
            if question.by is Dimension.DEVICE:
                return self._by_device(connection, question, choices)
            if question.by is Dimension.LABEL:
                return self._by_label(connection, question, choices)
            if question.by is Dimension.REASON:
                rows = connection.execute(_told(question, _COLUMNS.received, _COLUMNS.reasons))
                return reasons_reading(rows, question, choices)
            rows = connection.execute(_counted(question, _value_of(question.by), [WHOLE_FLEET]))
            return DimensionSums(slices_of(rows)).reading(question, choices)

    def _by_device(self, connection: Connection, question: OffloadQuestion, choices: Choices) -> OffloadReading:
        """Chosen by a few coarse buckets; their figures are those of the stretch itself."""
        written_s = _written_s(connection)
        ranking = self._ranking.read(connection, question.axis, question.filter, question.top, written_s)
        chosen = list(dict.fromkeys([*question.named, *ranking.best]))
        found = self._slices_of(connection, question, [WHOLE_FLEET, *chosen], written_s)
        slices = {each.value: each for each in found}
        whole = slices.pop(WHOLE_FLEET, Slice(WHOLE_FLEET, Share(0, 0), tally=NOTHING))
        sums = DimensionSums(list(slices.values()), whole)
        return sums.reading(question, choices, known=ranking.known, ranked=ranking.axis)

    def _slices_of(
        self, connection: Connection, question: OffloadQuestion, owners: Sequence[str], written_s: int
    ) -> list[Slice]:
        """Of those of `owners` that have any counts."""
        past = settled_part(question.axis, written_s)
        found = self._slices.known(past, question.filter, owners)
        missing = [owner for owner in owners if owner not in found]
        if past.span_s and missing:
            before = _by_owner(connection, replace(question, axis=past), missing)
            found.update(before)
            self._slices.keep(past, question.filter, list(before.values()))
        axis = replace(question.axis, since_s=past.until_s)
        now = _by_owner(connection, replace(question, axis=axis), owners) if axis.span_s else {}
        return [
            together(owner, [part[owner] for part in (found, now) if owner in part])
            for owner in owners
            if owner in found or owner in now
        ]

    def _by_label(self, connection: Connection, question: OffloadQuestion, choices: Choices) -> OffloadReading:
        past = settled_part(question.axis, _written_s(connection))
        key = past, question.filter
        before = self._labels.get(key) if past.span_s else NO_LABELS
        if before is None:
            before = _labels(connection, replace(question, axis=past))
            self._labels.put(key, before)
        axis = replace(question.axis, since_s=past.until_s)
        now = _labels(connection, replace(question, axis=axis)) if axis.span_s else NO_LABELS
        return (before + now).reading(question, choices)


def _written_s(connection: Connection) -> int:
    return connection.execute(select(tables.fleet_status.c.written_s)).scalar() or 0


def _labels(connection: Connection, question: OffloadQuestion) -> LabelSums:
    return label_sums(connection.execute(_told(question, _COLUMNS.labels)))


def _told(question: OffloadQuestion, *columns: ColumnElement[Any]) -> Select[Any]:
    """Of the whole fleet, each bucket's begin and `columns`."""
    return select(_COLUMNS.starts_s, *columns).where(*within(question.axis, question.filter, [WHOLE_FLEET]))


def _by_owner(connection: Connection, question: OffloadQuestion, owners: Sequence[str]) -> dict[str, Slice]:
    rows = connection.execute(_counted(question, _COLUMNS.device_id, owners))
    return {each.value: each for each in slices_of(rows)}


def _value_of(by: Dimension) -> ColumnElement[str]:
    if by is Dimension.VERSION:
        return _COLUMNS.model + "/" + _COLUMNS.model_version
    return _COLUMNS.ring if by is Dimension.RING else _COLUMNS.variant


def _counted(question: OffloadQuestion, value: ColumnElement[str], owners: Sequence[str]) -> Select[Any]:
    """What `slices_of` takes. The store adds up what it can: a year of twenty devices is 7,300 wide rows."""
    figures = [func.sum(_COLUMNS[name]) for name in (*COUNTER_NAMES, *AUDIT_COLUMNS)]
    start, wanted, accepted = (cast(_COLUMNS[name], String) for name in ("starts_s", "wanted", "accepted"))
    course = func.aggregate_strings(start + "," + wanted + "," + accepted, ",")
    columns: list[ColumnElement[Any]] = [value, *figures, course, func.aggregate_strings(_COLUMNS.latency, "\n")]
    return select(*columns).where(*within(question.axis, question.filter, owners)).group_by(value)


def _choices(connection: Connection) -> Choices:
    names = (_COLUMNS.model, _COLUMNS.ring, _COLUMNS.model_version, _COLUMNS.variant)
    query = select(*names).distinct().where(_COLUMNS.width_s == ALL_TIME_S, _COLUMNS.device_id == WHOLE_FLEET)
    columns = list(zip(*connection.execute(query), strict=True)) or [(), (), (), ()]
    return Choices(*(tuple(sorted(set(values))) for values in columns))
