"""The log of actions in the store. Blocking: call from a worker thread."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields

from sqlalchemy import ColumnElement, Connection, Engine, RowMapping, desc, func, insert, select, text

from cloud_service.access.action_log import BEGINNING, Entry, LoggedAction, Verdict, follow, verify
from cloud_service.storage.access_tables import action_log
from cloud_service.storage.transactions import look_into

_ENTRY_COLUMNS = tuple(field.name for field in fields(Entry))
_ROWS_AT_ONCE = 1000
_LOCK = 0x74616E64656D6C6F
"""The advisory lock's number: "tandemlo" in ASCII."""


@dataclass(frozen=True)
class Wanted:
    """Which entries to read, newest first: of one actor, of one action, older than `before_seq`; empty is all."""

    limit: int
    actor: str = ""
    action: str = ""
    before_seq: int | None = None


def append(connection: Connection, entry: Entry) -> LoggedAction:
    """Add `entry` to the chain in the transaction that does what it tells of, so that there is both or neither.

    Writers wait for one another until the transaction ends. On SQLite the writing engine's BEGIN IMMEDIATE sees to
    that, on PostgreSQL (READ COMMITTED) an advisory lock.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
    action = follow(_last(connection), entry)
    row = {"seq": action.seq, **asdict(entry), "previous_hash": action.previous_hash, "hash": action.hash}
    connection.execute(insert(action_log).values(row))
    return action


class ActionLog:
    """The log as pages and commands read it; a store that is not set up has an empty one."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def read(self, wanted: Wanted) -> list[LoggedAction]:
        """The newest entries that are wanted, newest first.

        Raises:
            StorageError: the store cannot be read.
        """
        query = select(action_log).where(*_conditions(wanted)).order_by(desc(action_log.c.seq)).limit(wanted.limit)
        with look_into(self._engine, action_log) as connection:
            if connection is None:
                return []
            return [_action_of(row) for row in connection.execute(query).mappings()]

    def kinds(self) -> list[str]:
        """The names of all actions that were ever logged, sorted.

        Raises:
            StorageError: the store cannot be read.
        """
        with look_into(self._engine, action_log) as connection:
            if connection is None:
                return []
            return list(_kinds(connection))

    def head(self) -> str:
        """The newest hash.

        Raises:
            StorageError: the store cannot be read.
        """
        with look_into(self._engine, action_log) as connection:
            last = _last(connection) if connection else None
        return last.hash if last else BEGINNING

    def verify(self, noted_head: str | None = None) -> Verdict:
        """Walk the whole chain; see `cloud_service.access.action_log.verify`.

        Raises:
            StorageError: the store cannot be read.
        """
        with look_into(self._engine, action_log) as connection:
            return verify(_all(connection) if connection else (), noted_head)


def _all(connection: Connection) -> Iterator[LoggedAction]:
    """Oldest first, a thousand at a time; entries of any number, so that none hides before the first."""
    query = select(action_log).order_by(action_log.c.seq).execution_options(yield_per=_ROWS_AT_ONCE)
    for row in connection.execute(query).mappings():
        yield _action_of(row)


def _kinds(connection: Connection) -> Iterator[str]:
    """From one to the next by the index: a long log has few kinds, and not every database skips by itself."""
    action, least = action_log.c.action, select(func.min(action_log.c.action))
    kind = connection.execute(least).scalar_one()
    while kind is not None:
        yield kind
        kind = connection.execute(least.where(action > kind)).scalar_one()


def _last(connection: Connection) -> LoggedAction | None:
    row = connection.execute(select(action_log).order_by(desc(action_log.c.seq)).limit(1)).mappings().first()
    return None if row is None else _action_of(row)


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    columns = action_log.c
    conditions = []
    if wanted.actor:
        conditions.append(columns.actor == wanted.actor)
    if wanted.action:
        conditions.append(columns.action == wanted.action)
    if wanted.before_seq is not None:
        conditions.append(columns.seq < wanted.before_seq)
    return conditions


def _action_of(row: RowMapping) -> LoggedAction:
    return LoggedAction(row["seq"], Entry(*(row[name] for name in _ENTRY_COLUMNS)), row["previous_hash"], row["hash"])
