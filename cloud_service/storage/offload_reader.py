"""The store as the Offload page reads it. Blocking: call from a worker thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Select, String, cast, func, literal_column, select

from cloud_service.dashboard.offload_address import Dimension, Filter
from cloud_service.dashboard.offload_question import Choices, OffloadQuestion, OffloadReading, Slice
from cloud_service.dashboard.offload_statistics import Share
from cloud_service.dashboard.ranges import Axis
from cloud_service.fleet.buckets import ALL_TIME_S, DAY_S, HOUR_S, WHOLE_FLEET
from cloud_service.fleet.tally import AUDIT_COLUMNS, COUNTER_NAMES, NOTHING
from cloud_service.storage import tables
from cloud_service.storage.offload_sums import DimensionSums, LabelSums, ReasonSums, Sums, slices_of, together
from cloud_service.storage.read_only_store import ReadOnlyStore
from cloud_service.storage.settled_slices import SettledSlices, settled_part

_HOURS_RANKED_S = 6 * HOUR_S
_DAYS_RANKED_S = 7 * DAY_S
_COLUMNS = tables.counts.c


class OffloadReader:
    """Reads only, from any process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._store = ReadOnlyStore(engine)
        self._settled = SettledSlices()

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
                return _devices(connection, question, choices, self._settled)
            if question.by in (Dimension.REASON, Dimension.LABEL):
                return _parts(connection, question, choices)
            rows = connection.execute(_counted(question, _value_of(question.by), [WHOLE_FLEET]))
            return DimensionSums(slices_of(rows)).reading(question, choices)


def _devices(
    connection: Connection, question: OffloadQuestion, choices: Choices, settled: SettledSlices
) -> OffloadReading:
    """Chosen by a few coarse buckets, so that the cost is bounded; their figures are those of the stretch itself."""
    ranked = _ranking_axis(question.axis)
    best = connection.execute(_ranking(ranked, question.filter).limit(max(1, question.top))).all()
    known = best[0].known if best else 0
    chosen = list(dict.fromkeys([*question.named, *(row.device_id for row in best[: question.top])]))
    slices = {each.value: each for each in _slices(connection, question, [WHOLE_FLEET, *chosen], settled)}
    whole = slices.pop(WHOLE_FLEET, Slice(WHOLE_FLEET, Share(0, 0), tally=NOTHING))
    return DimensionSums(list(slices.values()), whole).reading(question, choices, known=known, ranked=ranked)


def _slices(
    connection: Connection, question: OffloadQuestion, owners: Sequence[str], settled: SettledSlices
) -> list[Slice]:
    """Of those of `owners` that have any counts: what is settled is read once and kept, the rest is read now."""
    written_s = connection.execute(select(tables.fleet_status.c.written_s)).scalar() or 0
    past = settled_part(question.axis, written_s)
    found = settled.known(past, question.filter, owners)
    missing = [owner for owner in owners if owner not in found]
    if past.span_s and missing:
        before = _by_owner(connection, replace(question, axis=past), missing)
        found.update(before)
        settled.keep(past, question.filter, list(before.values()))
    axis = replace(question.axis, since_s=past.until_s)
    now = _by_owner(connection, replace(question, axis=axis), owners) if axis.span_s else {}
    return [
        together(owner, [part[owner] for part in (found, now) if owner in part])
        for owner in owners
        if owner in found or owner in now
    ]


def _by_owner(connection: Connection, question: OffloadQuestion, owners: Sequence[str]) -> dict[str, Slice]:
    rows = connection.execute(_counted(question, _COLUMNS.device_id, owners))
    return {each.value: each for each in slices_of(rows)}


def _parts(connection: Connection, question: OffloadQuestion, choices: Choices) -> OffloadReading:
    sums: Sums
    if question.by is Dimension.REASON:
        sums, told = ReasonSums(), (_COLUMNS.received, _COLUMNS.reasons)
    else:
        sums, told = LabelSums(), (_COLUMNS.accepted, _COLUMNS.labels)
    query = select(_COLUMNS.starts_s, *told).where(*_where(question.axis, question.filter, [WHOLE_FLEET]))
    sums.add_all(connection.execute(query))
    return sums.reading(question, choices)


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
    return select(*columns).where(*_where(question.axis, question.filter, owners)).group_by(value)


def _where(axis: Axis, wanted: Filter, owners: Sequence[str]) -> list[ColumnElement[bool]]:
    return [
        _COLUMNS.width_s == axis.width_s,
        _COLUMNS.device_id == owners[0] if len(owners) == 1 else _COLUMNS.device_id.in_(owners),
        _COLUMNS.starts_s >= axis.since_s,
        _COLUMNS.starts_s < axis.until_s,
        *_filtered(wanted),
    ]


def _filtered(wanted: Filter) -> list[ColumnElement[bool]]:
    named = (("model", wanted.model), ("ring", wanted.ring), ("model_version", wanted.version),
             ("variant", wanted.variant))  # fmt: skip
    return [_COLUMNS[name] == value for name, value in named if value is not None]


def _ranking_axis(axis: Axis) -> Axis:
    """The hours that `axis` touches, or the days, the newest seven of them at most."""
    width_s, most_s = (HOUR_S, _HOURS_RANKED_S) if axis.span_s <= _HOURS_RANKED_S else (DAY_S, _DAYS_RANKED_S)
    until_s = -(-axis.until_s // width_s) * width_s
    since_s = axis.since_s - axis.since_s % width_s
    return Axis(since_s if width_s == HOUR_S else max(since_s, until_s - most_s), until_s, width_s)


def _ranking(axis: Axis, wanted: Filter) -> Select[Any]:
    """Devices by what they wanted, each with how many there are. The width stands in the text: so SQLite sees that its
    partial index holds.
    """
    accepted, want = func.sum(_COLUMNS.accepted), func.sum(_COLUMNS.wanted)
    return (
        select(_COLUMNS.device_id, func.count().over().label("known"))
        .where(
            _COLUMNS.width_s == literal_column(str(axis.width_s)),
            _COLUMNS.starts_s >= axis.since_s,
            _COLUMNS.starts_s < axis.until_s,
            _COLUMNS.device_id != WHOLE_FLEET,
            *_filtered(wanted),
        )
        .group_by(_COLUMNS.device_id)
        .order_by(want.desc(), accepted.desc(), _COLUMNS.device_id)
    )


def _choices(connection: Connection) -> Choices:
    names = (_COLUMNS.model, _COLUMNS.ring, _COLUMNS.model_version, _COLUMNS.variant)
    query = select(*names).distinct().where(_COLUMNS.width_s == ALL_TIME_S, _COLUMNS.device_id == WHOLE_FLEET)
    columns = list(zip(*connection.execute(query), strict=True)) or [(), (), (), ()]
    return Choices(*(tuple(sorted(set(values))) for values in columns))
