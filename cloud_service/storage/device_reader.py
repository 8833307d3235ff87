"""The store as the list of devices reads it: one page at a time. Blocking: call from a worker thread."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    FromClause,
    UnaryExpression,
    and_,
    case,
    func,
    select,
)

from cloud_service.dashboard.devices_address import PAGE_ROWS, PRESENCES, DevicesAddress
from cloud_service.dashboard.devices_question import DeviceChoices, DeviceHistory, DevicesReading, ListedDevice
from cloud_service.dashboard.ranges import Axis
from cloud_service.fleet.buckets import ALL_TIME_S, WHOLE_FLEET
from cloud_service.fleet.reading import DeviceCounts
from cloud_service.storage import tables
from cloud_service.storage.device_history import MODEL_COLUMNS, model_of, read_history
from cloud_service.storage.present_words import is_newest_word, is_present_boot
from cloud_service.storage.read_only_store import ReadOnlyStore
from cloud_service.storage.rows import device_of

_DEVICES, _STATES = tables.devices.c, tables.model_states.c
_Read = TypeVar("_Read")


class DeviceReader:
    """Reads only, from any process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._store = ReadOnlyStore(engine)

    def page(self, address: DevicesAddress, seen_since_s: int) -> DevicesReading | None:
        """One page of the list; None while the store is not set up. Who was not seen since `seen_since_s` is silent.

        Raises:
            StorageError: the store cannot be read.
        """
        return self._read(lambda connection: _page(connection, address, seen_since_s))

    def device(self, device_id: str, axis: Axis) -> DeviceHistory | None:
        """One device with its counts over `axis`; None where there is no such device, or no store yet.

        Raises:
            StorageError: the store cannot be read.
        """
        return self._read(lambda connection: read_history(connection, device_id, axis))

    def _read(self, look: Callable[[Connection], _Read | None]) -> _Read | None:
        with self._store.look() as connection:
            return None if connection is None else look(connection)


def _page(connection: Connection, address: DevicesAddress, seen_since_s: int) -> DevicesReading:
    joined, wanted = _joined(), _wanted(address, seen_since_s)
    matches = connection.execute(select(func.count()).select_from(joined).where(*wanted)).scalar_one()
    keys = select(_DEVICES.device_id, _STATES.model).select_from(joined).where(*wanted)
    ordered = keys.order_by(*_order(address, seen_since_s)).offset((address.page - 1) * PAGE_ROWS).limit(PAGE_ROWS)
    on_page = [(row.device_id, row.model) for row in connection.execute(ordered)]
    listed = _listed(connection, {device_id for device_id, _ in on_page})
    rows = tuple(listed[key] for key in on_page)
    return DevicesReading(rows, matches, _presences(connection, seen_since_s), _choices(connection))


def _listed(connection: Connection, names: Collection[str]) -> dict[tuple[str, str | None], ListedDevice]:
    """By device and model. Whole rows are wide, so only those on the page are read."""
    columns = [_STATES[name] for name in MODEL_COLUMNS]
    query = select(tables.devices, *columns).select_from(_joined()).where(_DEVICES.device_id.in_(names))
    return {
        (row["device_id"], row["model"]): ListedDevice(
            device_of(row), None if row["model"] is None else model_of(row, row["boot_id"], row["ring"])
        )
        for row in connection.execute(query).mappings()
    }


def _joined() -> FromClause:
    """Each device with the newest word of its present boot on each model."""
    return tables.devices.outerjoin(tables.model_states, and_(is_present_boot(), is_newest_word()))


def _wanted(address: DevicesAddress, seen_since_s: int) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if address.search:
        found.append(_DEVICES.device_id.icontains(address.search, autoescape=True))
    if address.presence:
        found.append(_presence(seen_since_s) == PRESENCES.index(address.presence))
    named = ((_DEVICES.ring, address.ring), (_STATES.model, address.model), (_STATES.model_version, address.version))
    found.extend(column == value for column, value in named if value)
    if address.policy == "refused":
        found.append(_STATES.refused_policy_id != "")
    elif address.policy:
        found.append((_STATES.policy_id != "") if address.policy == "obeyed" else (_STATES.policy_id == ""))
    return found


def _presence(seen_since_s: int) -> ColumnElement[int]:
    """The place in `PRESENCES`."""
    is_seen = func.coalesce(_DEVICES.last_seen_s, 0) >= seen_since_s
    return case((~_DEVICES.is_online, 2), (is_seen, 0), else_=1)


def _order(address: DevicesAddress, seen_since_s: int) -> list[UnaryExpression[Any]]:
    """Rows without a value come last in either direction; ties by name."""
    ratio = case((_STATES.accepted > 0, _STATES.wanted * 1.0 / _STATES.accepted))
    columns: dict[str, ColumnElement[Any]] = {
        "device": _DEVICES.device_id,
        "presence": _presence(seen_since_s),
        "seen": _DEVICES.last_seen_s,
        "agent": _DEVICES.agent_version,
        "ring": _DEVICES.ring,
        "model": _STATES.model,
        "version": _STATES.model_version,
        "accepted": _STATES.accepted,
        "offload": ratio,
        "p99": _STATES.p99_ms,
        "link": _STATES.cloud_link,
        "gate": _STATES.gate_threshold,
        "policy": case((_STATES.refused_policy_id != "", 0), (_STATES.policy_id != "", 1), else_=2),
    }
    column = columns[address.sort_key]
    first = column.desc() if address.is_descending else column.asc()
    return [first.nulls_last(), _DEVICES.device_id.asc(), _STATES.model.asc()]


def _presences(connection: Connection, seen_since_s: int) -> DeviceCounts:
    place = _presence(seen_since_s).label("place")
    query = select(place, func.count()).select_from(tables.devices).group_by(place)
    counts = {row[0]: row[1] for row in connection.execute(query)}
    return DeviceCounts(*(counts.get(place, 0) for place in range(len(PRESENCES))))


def _choices(connection: Connection) -> DeviceChoices:
    rings = connection.execute(select(_DEVICES.ring).distinct().order_by(_DEVICES.ring)).scalars()
    counts = tables.counts.c
    served = (
        select(counts.model, counts.model_version)
        .distinct()
        .where(counts.width_s == ALL_TIME_S, counts.device_id == WHOLE_FLEET)
    )
    pairs = [(row.model, row.model_version) for row in connection.execute(served)]
    return DeviceChoices(
        tuple(rings), tuple(sorted({model for model, _ in pairs})), tuple(sorted({version for _, version in pairs}))
    )
