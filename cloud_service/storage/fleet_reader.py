"""The store as the operator's page reads it: one consistent look. Blocking: call from a worker thread."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, Connection, Engine, and_, func, select

from cloud_service.fleet.book import ModelState
from cloud_service.fleet.buckets import ALL_TIME_S, FINE_S, WHOLE_FLEET, CountKey
from cloud_service.fleet.reading import DeviceCounts, DeviceReading, FleetReading, Question
from cloud_service.fleet.status import FleetStatus
from cloud_service.fleet.tally import COUNTER_NAMES, Tally, TallySum, total
from cloud_service.storage import tables
from cloud_service.storage.gate_glance import glances, open_alarms
from cloud_service.storage.read_only_store import ReadOnlyStore
from cloud_service.storage.rows import count_of, device_of, state_of, status_of
from shared.types import RequestCounters


class FleetReader:
    """Reads only, from any process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._store = ReadOnlyStore(engine)

    def read(self, question: Question) -> FleetReading | None:
        """One consistent look; None while the fleet service has not set up the store.

        Raises:
            StorageError: the store cannot be read.
        """
        with self._store.look() as connection:
            return None if connection is None else _read(connection, question)

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()


def _read(connection: Connection, question: Question) -> FleetReading:
    until_s = question.until_s
    figures = _fleet_counts(connection, question.figures_width_s, question.figures_since_s, until_s)
    recent = _fleet_counts(connection, FINE_S, question.recent_since_s, until_s)
    all_time = _fleet_counts(connection, ALL_TIME_S, 0, until_s)
    in_flight, calls_in_flight = _in_flight(connection)
    return FleetReading(
        _status(connection),
        _device_counts(connection, question.seen_since_s),
        _devices(connection, question),
        _chart(connection, question),
        total(tally for _, tally in figures),
        total(tally for _, tally in recent),
        total(tally for _, tally in all_time),
        in_flight,
        calls_in_flight,
        glances(connection, figures),
        open_alarms(connection),
    )


def _status(connection: Connection) -> FleetStatus | None:
    row = connection.execute(select(tables.fleet_status)).mappings().first()
    return None if row is None else status_of(row)


def _fleet_counts(connection: Connection, width_s: int, since_s: int, until_s: int) -> list[tuple[CountKey, Tally]]:
    return _counts(connection, width_s, [WHOLE_FLEET], since_s, until_s)


def _counts(
    connection: Connection, width_s: int, owners: Sequence[str], since_s: int, until_s: int
) -> list[tuple[CountKey, Tally]]:
    query = select(*tables.UNLABELLED).where(*_within(width_s, owners, since_s, until_s))
    return [count_of(row) for row in connection.execute(query).mappings()]


def _within(width_s: int, owners: Sequence[str], since_s: int, until_s: int) -> list[ColumnElement[bool]]:
    columns = tables.counts.c
    return [
        columns.width_s == width_s,
        columns.device_id.in_(owners),
        columns.starts_s >= since_s,
        columns.starts_s < until_s,
    ]


def _chart(connection: Connection, question: Question) -> dict[int, Tally]:
    """Counters alone, added up by the store: a day of ten minutes is many rows, and their latencies are not drawn."""
    columns = tables.counts.c
    sums = [func.sum(columns[name]) for name in COUNTER_NAMES]
    query = select(columns.starts_s, *sums).where(
        *_within(question.chart_width_s, [WHOLE_FLEET], question.chart_since_s, question.until_s)
    )
    return {
        starts_s: Tally(RequestCounters(*map(int, counters)))
        for starts_s, *counters in connection.execute(query.group_by(columns.starts_s))
    }


def _in_flight(connection: Connection) -> tuple[int, int]:
    states, devices = tables.model_states.c, tables.devices.c
    query = (
        select(func.coalesce(func.sum(states.in_flight), 0), func.coalesce(func.sum(states.calls_in_flight), 0))
        .join_from(tables.model_states, tables.devices, _is_present_boot())
        .where(devices.is_online)
    )
    in_flight, calls_in_flight = connection.execute(query).one()
    return int(in_flight), int(calls_in_flight)


def _device_counts(connection: Connection, seen_since_s: int) -> DeviceCounts:
    columns = tables.devices.c
    query = select(
        func.count(),
        func.count().filter(columns.is_online),
        func.count().filter(and_(columns.is_online, columns.last_seen_s >= seen_since_s)),
    ).select_from(tables.devices)
    every, online, seen = connection.execute(query).one()
    return DeviceCounts(online=seen, silent=online - seen, offline=every - online)


def _devices(connection: Connection, question: Question) -> tuple[DeviceReading, ...]:
    query = select(tables.devices).order_by(tables.devices.c.device_id).limit(question.device_limit)
    devices = [device_of(row) for row in connection.execute(query).mappings()]
    names = [device.device_id for device in devices]
    models = _models(connection, names)
    tallies = _by_device(
        _counts(connection, question.figures_width_s, names, question.figures_since_s, question.until_s)
    )
    return tuple(
        DeviceReading(device, models[device.device_id], tallies.get(device.device_id, {})) for device in devices
    )


def _by_device(counts: Iterable[tuple[CountKey, Tally]]) -> dict[str, dict[str, Tally]]:
    sums: dict[str, dict[str, TallySum]] = defaultdict(lambda: defaultdict(TallySum))
    for key, tally in counts:
        sums[key.device_id][key.model].add(tally)
    return {owner: {model: each.tally() for model, each in models.items()} for owner, models in sums.items()}


def _models(connection: Connection, names: Sequence[str]) -> dict[str, tuple[ModelState, ...]]:
    """By device: the newest word of its present boot on each model."""
    columns = tables.model_states.c
    query = (
        select(tables.model_states)
        .join_from(tables.model_states, tables.devices, _is_present_boot())
        .where(columns.device_id.in_(names))
        .order_by(columns.device_id, columns.model, columns.heard_s, columns.sequence)
    )
    models: dict[str, dict[str, ModelState]] = {name: {} for name in names}
    for row in connection.execute(query).mappings():
        state = state_of(row)
        models[state.series.device_id][state.series.model] = state
    return {name: tuple(states.values()) for name, states in models.items()}


def _is_present_boot() -> ColumnElement[bool]:
    states, devices = tables.model_states.c, tables.devices.c
    return and_(states.device_id == devices.device_id, states.boot_id == devices.boot_id)
