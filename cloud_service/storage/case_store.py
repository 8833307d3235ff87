"""Comparisons and true labels as they are written: each once. Blocking: call from a worker thread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from sqlite3 import Connection as SqliteConnection

from sqlalchemy import ColumnElement, Connection, Engine, Insert, Table, delete, event, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from cloud_service.cases.comparison import Comparison, LabelledAnswer, storable
from cloud_service.storage.case_tables import comparisons, true_labels
from cloud_service.storage.encoding import Row
from cloud_service.storage.read_only_store import is_missing
from cloud_service.storage.schema import is_current
from shared.errors import NotReady, StorageError, StoreRefused


class CaseStore:
    """Several gateways may write; the schema is the fleet service's work."""

    def __init__(self, engine: Engine) -> None:
        """`engine`: of `open_durable_engine`, as devices forget labels once they are taken."""
        self._engine = engine
        self._is_ready = False
        if engine.dialect.name == "sqlite":
            _erase_what_is_deleted(engine)

    def is_ready(self) -> bool:
        """Whether the fleet service has set up the store.

        Raises:
            StorageError: the store cannot be reached.
        """
        if not self._is_ready and not is_missing(self._engine):
            with self._transaction() as connection:
                self._is_ready = is_current(connection)
        return self._is_ready

    def add_comparisons(self, found: Sequence[Comparison]) -> int:
        """Write those that are not there yet; how many were new.

        Raises:
            NotReady: the store is not set up.
            StorageError: the store cannot be written.
        """
        self._require_ready()
        rows = [_row(each) for each in found]
        insert = _insert(comparisons, self._engine.dialect.name).on_conflict_do_nothing(
            index_elements=["device_id", "request_id"]
        )
        with self._transaction() as connection:
            return _written(connection, comparisons, insert, rows)

    def add_labels(self, labels: Sequence[LabelledAnswer]) -> int:
        """Write labels that came back. One said twice changes nothing; another for the same answer takes its place.

        Returns: how many were new or another.

        Raises:
            NotReady: the store is not set up.
            StorageError: the store cannot be written.
        """
        self._require_ready()
        newest = {(each.device_id, each.request_id, each.model): each for each in labels}
        insert = _insert(true_labels, self._engine.dialect.name)
        said = insert.excluded
        upsert = insert.on_conflict_do_update(
            index_elements=["device_id", "request_id", "model"],
            set_={"true_label": said.true_label, "received_s": said.received_s},
            where=true_labels.c.true_label != said.true_label,
        )
        with self._transaction() as connection:
            return _written(connection, true_labels, upsert, [_row(each) for each in newest.values()])

    def prune(self, kept_since_s: int, most_rows: int) -> int:
        """Delete what is older than `kept_since_s` and, of each table, all but the newest `most_rows`.

        Returns: how many rows are gone.

        Raises:
            NotReady: the store is not set up.
            StorageError: the store cannot be written.
        """
        self._require_ready()
        gone = 0
        for table, time in ((comparisons, comparisons.c.at_s), (true_labels, true_labels.c.received_s)):
            with self._transaction() as connection:
                gone += _delete(connection, table, time < kept_since_s)
            with self._transaction() as connection:
                last = connection.scalar(select(table.c.id).order_by(table.c.id.desc()).offset(most_rows).limit(1))
                gone += 0 if last is None else _delete(connection, table, table.c.id <= last)
        return gone

    def forget_texts(self) -> int:
        """Take all texts away, as they are not to be kept any more; how many there were.

        Raises:
            NotReady: the store is not set up.
            StorageError: the store cannot be written.
        """
        self._require_ready()
        forget = update(comparisons).where(comparisons.c.text.is_not(None)).values(text=None)
        with self._transaction() as connection:
            return connection.execute(forget).rowcount

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()

    def _require_ready(self) -> None:
        if not self.is_ready():
            raise NotReady("the store is not set up: it is the fleet service that does so (cloud-service serve fleet)")

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except OperationalError as error:
            self._is_ready = False
            raise StorageError(f"the store cannot be used: {error}") from error
        except SQLAlchemyError as error:
            raise StoreRefused(f"the store refuses what is to be written: {error}") from error


def _erase_what_is_deleted(engine: Engine) -> None:
    """SQLite writes zeros over what is deleted: a text that is not to be kept leaves nothing in a free page."""

    @event.listens_for(engine, "connect")
    def connected(connection: SqliteConnection, entry: ConnectionPoolEntry) -> None:
        connection.execute("PRAGMA secure_delete = ON")


def _insert(table: Table, dialect: str) -> sqlite.Insert | postgresql.Insert:
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


def _written(connection: Connection, table: Table, insert: Insert, rows: Sequence[Row]) -> int:
    return len(connection.execute(insert.returning(table.c.id), rows).all()) if rows else 0


def _delete(connection: Connection, table: Table, which: ColumnElement[bool]) -> int:
    return connection.execute(delete(table).where(which)).rowcount


def _row(each: Comparison | LabelledAnswer) -> Row:
    return {name: storable(value) if isinstance(value, str) else value for name, value in asdict(each).items()}
