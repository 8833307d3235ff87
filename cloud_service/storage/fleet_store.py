"""The store as the fleet service writes it. Blocking: call from a worker thread."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from operator import itemgetter

from sqlalchemy import (
    Connection,
    Delete,
    Engine,
    Insert,
    RowMapping,
    Select,
    Table,
    and_,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from cloud_service.access.action_log import Entry, detail_json
from cloud_service.fleet.book import Changes, ModelState
from cloud_service.fleet.buckets import Bucket, CountKey
from cloud_service.fleet.deltas import Series
from cloud_service.fleet.presence import DeviceState
from cloud_service.fleet.status import FleetStatus
from cloud_service.fleet.tally import Tally
from cloud_service.storage import tables
from cloud_service.storage.action_store import append
from cloud_service.storage.encoding import Row
from cloud_service.storage.rows import (
    SERIES_COLUMNS,
    STATUS_ID,
    count_of,
    count_row,
    device_of,
    device_row,
    state_of,
    state_row,
)
from cloud_service.storage.schema import migrate
from cloud_service.storage.watch_rows import (
    alarm_row,
    gate_of,
    gate_row,
    policy_of,
    policy_row,
    watch_of,
    watch_row,
)
from cloud_service.watch.records import IssuedPolicy, KnownGate, WatchRecords
from shared.errors import GateError, StorageError, StoreTaken

_log = logging.getLogger(__name__)
_ERROR_CHARACTERS = 255


class FleetStore:
    """One writer. Whoever called `claim` last may write; another's next transaction fails as a whole."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writer_id = secrets.token_hex(16)
        self._upserts: dict[str, _Upsert] = {}

    def claim(self, status: FleetStatus) -> None:
        """Bring the schema up to date and become the writer.

        Raises:
            StorageError: the store cannot be opened, or was written by a newer Tandem.
        """
        migrate(self._engine)
        with self._transaction() as connection:
            row = {"id": STATUS_ID, "writer_id": self._writer_id, **_status_columns(status)}
            self._upsert(connection, tables.fleet_status, [row])

    def load(self) -> tuple[list[DeviceState], list[ModelState]]:
        """All devices, and the newest booked word of each series.

        Raises:
            StorageError: the store cannot be read.
        """
        with self._transaction() as connection:
            devices = [device_of(row) for row in connection.execute(select(tables.devices)).mappings()]
            states = [state_of(row) for row in connection.execute(select(tables.model_states)).mappings()]
        return devices, states

    def load_counts(self, bucket: Bucket) -> dict[CountKey, Tally]:
        """What is counted in one bucket, of the fleet and of each device.

        Raises:
            StorageError: the store cannot be read.
        """
        table = tables.counts
        query = select(table).where(table.c.width_s == bucket.width_s, table.c.starts_s == bucket.starts_s)
        with self._transaction() as connection:
            return dict(count_of(row) for row in connection.execute(query).mappings())

    def keep_gates(self, gates: Sequence[KnownGate]) -> None:
        """Remember these gates; one that is there already is replaced.

        Raises:
            StorageError: the store cannot be written.
        """
        with self._transaction() as connection:
            self._upsert(connection, tables.gates, [gate_row(known) for known in gates])

    def load_watch(self) -> WatchRecords:
        """Every gate that is known, every watch, and of each ring, model and gate the newest order.

        Raises:
            StorageError: the store cannot be read.
        """
        with self._transaction() as connection:
            gates = _readable_gates(connection.execute(select(tables.gates)).mappings())
            watches = [watch_of(row) for row in connection.execute(select(tables.gate_watches)).mappings()]
            policies = [policy_of(row) for row in connection.execute(_newest_policies()).mappings()]
        return WatchRecords(gates, tuple(watches), tuple(policies))

    def newest_policies(self) -> tuple[IssuedPolicy, ...]:
        """Of each ring, model and gate the newest order.

        Raises:
            StorageError: the store cannot be read.
        """
        with self._transaction() as connection:
            return tuple(policy_of(row) for row in connection.execute(_newest_policies()).mappings())

    def unpublished(self) -> tuple[IssuedPolicy, ...]:
        """The orders that the broker has not taken yet, by sequence.

        Raises:
            StorageError: the store cannot be read.
        """
        table = tables.gate_policies
        query = select(table).where(table.c.published_s.is_(None)).order_by(table.c.sequence)
        with self._transaction() as connection:
            return tuple(policy_of(row) for row in connection.execute(query).mappings())

    def mark_published(self, policy_ids: Sequence[str], now_s: int) -> None:
        """The broker has taken these orders, or newer ones in their place.

        Raises:
            StorageError: the store cannot be written.
        """
        table = tables.gate_policies
        with self._transaction() as connection:
            connection.execute(update(table).where(table.c.policy_id.in_(policy_ids)).values(published_s=now_s))

    def commit(self, changes: Changes, status: FleetStatus) -> None:
        """Write all of `changes` and `status`, or nothing.

        Raises:
            StoreTaken: another fleet service has claimed the store.
            StorageError: the store cannot be written.
        """
        with self._transaction() as connection:
            self._sign(connection, status)
            self._upsert(connection, tables.devices, [device_row(device) for device in changes.devices.values()])
            self._upsert(connection, tables.model_states, [state_row(state) for state in changes.states.values()])
            rows = [count_row(key, tally) for key, tally in changes.counts.items()]
            self._upsert(connection, tables.counts, rows)
            self._upsert(connection, tables.gate_watches, [watch_row(watch) for watch in changes.watches.values()])
            _insert(connection, tables.gate_alarms, [alarm_row(alarm) for alarm in changes.alarms])
            _insert(connection, tables.gate_policies, [policy_row(issued) for issued in changes.policies])
            for issued in changes.policies:
                append(connection, _action_of(issued))

    def prune(self, kept_since: Mapping[int, int], forgotten: Sequence[Series]) -> int:
        """Delete old buckets (by width: those that start before the second given) and ended series.

        Returns: how many rows are gone.

        Raises:
            StorageError: the store cannot be written.
        """
        table = tables.counts
        with self._transaction() as connection:
            gone = [
                connection.execute(delete(table).where(table.c.width_s == width_s, table.c.starts_s < before_s))
                for width_s, before_s in kept_since.items()
            ]
            if forgotten:
                connection.execute(_delete_series(), [_series_parameters(series) for series in forgotten])
        return sum(result.rowcount for result in gone) + len(forgotten)

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()

    def _sign(self, connection: Connection, status: FleetStatus) -> None:
        table = tables.fleet_status
        ours = and_(table.c.id == STATUS_ID, table.c.writer_id == self._writer_id)
        if connection.execute(update(table).where(ours).values(_status_columns(status))).rowcount != 1:
            raise StoreTaken("another fleet service writes to this store; run one alone")

    def _upsert(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        if rows:
            upsert = self._upserts.get(table.name)
            if upsert is None:
                upsert = self._upserts[table.name] = _Upsert(table, self._engine)
            upsert.execute(connection, rows)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StorageError(f"the store cannot be used: {error}") from error


class _Upsert:
    """One table's statement, compiled once: thousands of rows a second go through it.

    What it is given must be of the driver's own types, as every row of `rows` and `watch_rows` is.
    """

    def __init__(self, table: Table, engine: Engine) -> None:
        compiled = _upsert_into(table, engine.dialect.name).compile(
            dialect=engine.dialect, column_keys=[column.name for column in table.columns]
        )
        self._sql = str(compiled)
        self._take = itemgetter(*compiled.positiontup) if compiled.positiontup else None

    def execute(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Write the rows, each whole."""
        connection.exec_driver_sql(self._sql, [self._take(row) for row in rows] if self._take else list(rows))


def _upsert_into(table: Table, dialect: str) -> Insert:
    keys = [column.name for column in table.primary_key]
    insert = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
    values = {column.name: insert.excluded[column.name] for column in table.columns if column.name not in keys}
    return insert.on_conflict_do_update(index_elements=keys, set_=values)


def _insert(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    if rows:
        connection.execute(insert(table), rows)


def _action_of(issued: IssuedPolicy) -> Entry:
    policy = issued.policy
    detail = {
        "policy_id": policy.policy_id,
        "gate_digest": policy.gate_digest,
        "escalate_all": policy.escalate_all,
        "least_threshold": policy.least_threshold,
        "reason": policy.reason,
    }
    subject = f"{issued.ring}/{policy.model}"
    return Entry(policy.issued_at_unix_ms, policy.issued_by, "service", "gate.tighten", subject, detail_json(detail))


def _readable_gates(rows: Iterable[RowMapping]) -> tuple[KnownGate, ...]:
    """A gate that a newer Tandem wrote is not watched, and nothing else suffers."""
    gates = []
    for row in rows:
        try:
            gates.append(gate_of(row))
        except GateError as error:
            _log.warning("gate %s of %s cannot be watched: %s", row["digest"], row["model"], error)
    return tuple(gates)


def _newest_policies() -> Select[tuple[object, ...]]:
    table = tables.gate_policies
    topic = (table.c.ring, table.c.model, table.c.gate_digest)
    newest = select(*topic, func.max(table.c.sequence).label("sequence")).group_by(*topic).subquery()
    columns = (*topic, table.c.sequence)
    return select(table).join(newest, and_(*(column == newest.c[column.name] for column in columns)))


def _delete_series() -> Delete:
    columns = tables.model_states.c
    return delete(tables.model_states).where(*(columns[name] == bindparam(f"old_{name}") for name in SERIES_COLUMNS))


def _series_parameters(series: Series) -> Row:
    return {f"old_{name}": value for name, value in asdict(series).items()}


def _status_columns(status: FleetStatus) -> Row:
    return {**asdict(status), "broker_error": status.broker_error[:_ERROR_CHARACTERS]}
