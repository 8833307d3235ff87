"""Transactions whose failures are our own errors, and the engine for what must outlive a power cut."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from sqlite3 import Connection as SqliteConnection

from sqlalchemy import Connection, Engine, Table, event, inspect
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from cloud_service.storage.engine import open_engine
from cloud_service.storage.read_only_store import is_missing
from shared.errors import StorageError


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """All or nothing.

    Raises:
        StorageError: the store cannot be read or written.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except SQLAlchemyError as error:
        raise StorageError(f"the store cannot be used: {error}") from error


def open_durable_engine(url: str) -> Engine:
    """A writing engine whose commits are on disk: no message of a device brings an action back.

    Raises:
        ConfigurationError: see `cloud_service.storage.engine.open_engine`.
    """
    engine = open_engine(url, writes=True)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def connected(connection: SqliteConnection, entry: ConnectionPoolEntry) -> None:
            connection.execute("PRAGMA synchronous = FULL")

    return engine


@contextmanager
def look_into(engine: Engine, table: Table) -> Iterator[Connection | None]:
    """One consistent look; None where the store is not there yet, or has not come so far as to know the table.

    Raises:
        StorageError: the store cannot be read.
    """
    if is_missing(engine):
        yield None
        return
    with transaction(engine) as connection:
        yield connection if inspect(connection).has_table(table.name) else None
