"""The store as the fleet service writes it. Blocking: call from a worker thread."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict

from sqlalchemy import Connection, Delete, Engine, Insert, Table, and_, bindparam, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from cloud_service.fleet.book import Changes, ModelState
from cloud_service.fleet.buckets import Bucket, CountKey
from cloud_service.fleet.deltas import Series
from cloud_service.fleet.presence import DeviceState
from cloud_service.fleet.status import FleetStatus
from cloud_service.fleet.tally import Tally
from cloud_service.storage import tables
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
from shared.errors import StorageError, StoreTaken

_ERROR_CHARACTERS = 255


class FleetStore:
    """One writer. Whoever called `claim` last may write; another's next transaction fails as a whole."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writer_id = secrets.token_hex(16)

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
            connection.execute(_upsert_into(table, self._engine.dialect.name), rows)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StorageError(f"the store cannot be used: {error}") from error


def _upsert_into(table: Table, dialect: str) -> Insert:
    keys = [column.name for column in table.primary_key]
    insert = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
    values = {column.name: insert.excluded[column.name] for column in table.columns if column.name not in keys}
    return insert.on_conflict_do_update(index_elements=keys, set_=values)


def _delete_series() -> Delete:
    columns = tables.model_states.c
    return delete(tables.model_states).where(*(columns[name] == bindparam(f"old_{name}") for name in SERIES_COLUMNS))


def _series_parameters(series: Series) -> Row:
    return {f"old_{name}": value for name, value in asdict(series).items()}


def _status_columns(status: FleetStatus) -> Row:
    return {**asdict(status), "broker_error": status.broker_error[:_ERROR_CHARACTERS]}
