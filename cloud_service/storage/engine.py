"""Opens the store: an SQLAlchemy engine, SQLite in WAL mode or PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from sqlite3 import Connection as SqliteConnection

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import ConnectionPoolEntry

from shared.errors import ConfigurationError

_BUSY_TIMEOUT_MS = 5000


def open_engine(url: str, *, writes: bool) -> Engine:
    """An engine for the one process that writes, or for those that only read. Connects to nothing yet.

    Raises:
        ConfigurationError: the URL is none, names a database other than SQLite or PostgreSQL, or its driver is
            not installed.
    """
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
        if backend not in ("sqlite", "postgresql"):
            raise ConfigurationError(f"storage.url: {backend} is not known; use sqlite or postgresql+psycopg")
        # errors are logged, and parameters may be texts or hashes of passwords
        engine = create_engine(parsed, pool_pre_ping=backend == "postgresql", hide_parameters=True)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise ConfigurationError(f"storage.url: {error}") from error
    if backend == "sqlite":
        if writes and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        _prepare_sqlite(engine, writes=writes)
        return engine
    return engine if writes else engine.execution_options(isolation_level="REPEATABLE READ")


def _prepare_sqlite(engine: Engine, *, writes: bool) -> None:
    """WAL lets the page read while the fleet process writes.

    `synchronous = NORMAL`: a power cut may take the last commits, whole; the broker's retained messages bring them
    back. The driver's own transactions are off: a writer must take its lock at BEGIN, not in the middle.
    """

    @event.listens_for(engine, "connect")
    def connected(connection: SqliteConnection, entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        if writes:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
        else:
            connection.execute("PRAGMA query_only = ON")

    @event.listens_for(engine, "begin")
    def began(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
