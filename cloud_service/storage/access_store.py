"""Users and sessions in the store. Blocking: call from a worker thread. Every change goes with its entry in the log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TypeVar

from sqlalchemy import Connection, Engine, RowMapping, delete, insert, or_, select, update

from cloud_service.access.action_log import Entry
from cloud_service.access.roles import Role
from cloud_service.access.sessions import Session, SessionLimits
from cloud_service.storage.access_tables import sessions, users
from cloud_service.storage.action_store import append
from cloud_service.storage.transactions import look_into, transaction
from shared.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class User:
    """Who may sign in."""

    name: str
    role: Role
    password_hash: str
    created_at_unix_ms: int


@dataclass(frozen=True)
class Known:
    """What the store says of a visitor: the session, if there is such a one, and whether anyone could sign in."""

    session: Session | None
    has_users: bool


class AccessStore:
    """Looks with one engine and writes with the other, which must commit durably."""

    def __init__(self, reading: Engine, writing: Engine) -> None:
        self._reading = reading
        self._writing = writing

    def look(self, id_hash: str | None) -> Known:
        """The session of that id, over or not. A store without the tables has no users.

        Raises:
            StorageError: the store cannot be read.
        """
        with look_into(self._reading, users) as connection:
            if connection is None:
                return Known(None, False)
            session = _session(connection, id_hash) if id_hash else None
            return Known(session, session is not None or _has_users(connection))

    def user(self, name: str) -> User | None:
        """The user of that name.

        Raises:
            StorageError: the store cannot be read.
        """
        with look_into(self._reading, users) as connection:
            return _user(connection, name) if connection else None

    def users(self) -> list[User]:
        """All users, by name.

        Raises:
            StorageError: the store cannot be read.
        """
        with look_into(self._reading, users) as connection:
            if connection is None:
                return []
            return [_user_of(row) for row in connection.execute(select(users).order_by(users.c.name)).mappings()]

    def begin_session(
        self, user: User, session: Session, in_place_of: str | None, limits: SessionLimits, entry: Entry
    ) -> None:
        """Sign `user` in, who has shown the password. What is over, and what the session replaces, is forgotten.

        Raises:
            InputError: the user was removed or changed since.
            StorageError: the store cannot be written.
        """
        now_ms = session.created_at_unix_ms

        def change(connection: Connection) -> None:
            if _locked_user(connection, user.name) != user:
                raise InputError(f"user {user.name!r} was changed just now")
            connection.execute(
                delete(sessions).where(
                    or_(
                        sessions.c.id_hash == (in_place_of or ""),
                        sessions.c.created_at_unix_ms <= now_ms - limits.longest_ms,
                        sessions.c.seen_at_unix_ms <= now_ms - limits.idle_ms,
                    )
                )
            )
            row = {name: value for name, value in asdict(session).items() if name != "role"}
            connection.execute(insert(sessions).values(row))

        self.act(entry, change)

    def end_session(self, id_hash: str, entry: Entry) -> None:
        """Sign out.

        Raises:
            StorageError: the store cannot be written.
        """
        self.act(entry, lambda connection: connection.execute(delete(sessions).where(sessions.c.id_hash == id_hash)))

    def touch(self, id_hash: str, now_ms: int) -> None:
        """Note that the session was used.

        Raises:
            StorageError: the store cannot be written.
        """
        with transaction(self._writing) as connection:
            connection.execute(update(sessions).where(sessions.c.id_hash == id_hash).values(seen_at_unix_ms=now_ms))

    def add_user(self, user: User, entry: Entry) -> None:
        """Make a user.

        Raises:
            InputError: the name is taken.
            StorageError: the store cannot be written.
        """

        def change(connection: Connection) -> None:
            if _user(connection, user.name):
                raise InputError(f"user {user.name!r} is there already")
            connection.execute(insert(users).values({**asdict(user), "role": user.role.value}))

        self.act(entry, change)

    def remove_user(self, name: str, entry: Entry) -> None:
        """Remove a user and end the user's sessions.

        Raises:
            InputError: there is no such user.
            StorageError: the store cannot be written.
        """

        def change(connection: Connection) -> None:
            _end_all(connection, name)
            connection.execute(delete(users).where(users.c.name == name))

        self.act(entry, change)

    def set_role(self, name: str, role: Role, entry: Entry) -> None:
        """Give a user another role and end the user's sessions.

        Raises:
            InputError: there is no such user.
            StorageError: the store cannot be written.
        """

        def change(connection: Connection) -> None:
            _end_all(connection, name)
            connection.execute(update(users).where(users.c.name == name).values(role=role.value))

        self.act(entry, change)

    def set_password(self, name: str, password_hash: str, entry: Entry) -> None:
        """Give a user another password and end the user's sessions.

        Raises:
            InputError: there is no such user.
            StorageError: the store cannot be written.
        """

        def change(connection: Connection) -> None:
            _end_all(connection, name)
            connection.execute(update(users).where(users.c.name == name).values(password_hash=password_hash))

        self.act(entry, change)

    def renew_hash(self, name: str, old_hash: str, new_hash: str) -> None:
        """Keep the same password by a newer hash.

        Raises:
            StorageError: the store cannot be written.
        """
        same = (users.c.name == name, users.c.password_hash == old_hash)
        with transaction(self._writing) as connection:
            connection.execute(update(users).where(*same).values(password_hash=new_hash))

    def act(self, entry: Entry, change: Callable[[Connection], T]) -> T:
        """Make `change` and log it, in one transaction: both or neither.

        Raises:
            StorageError: the store cannot be written.
        """
        with transaction(self._writing) as connection:
            result = change(connection)
            append(connection, entry)
            return result


def _has_users(connection: Connection) -> bool:
    return connection.execute(select(users.c.name).limit(1)).first() is not None


def _user(connection: Connection, name: str) -> User | None:
    row = connection.execute(select(users).where(users.c.name == name)).mappings().first()
    return None if row is None else _user_of(row)


def _locked_user(connection: Connection, name: str) -> User | None:
    """So that on PostgreSQL no one signs in with a password while it is being changed; SQLite has one writer anyway."""
    row = connection.execute(select(users).where(users.c.name == name).with_for_update()).mappings().first()
    return None if row is None else _user_of(row)


def _user_of(row: RowMapping) -> User:
    return User(row["name"], Role(row["role"]), row["password_hash"], row["created_at_unix_ms"])


def _session(connection: Connection, id_hash: str) -> Session | None:
    query = (
        select(sessions, users.c.role)
        .join_from(sessions, users, sessions.c.user_name == users.c.name)
        .where(sessions.c.id_hash == id_hash)
    )
    row = connection.execute(query).mappings().first()
    if row is None:
        return None
    return Session(
        row["id_hash"], row["user_name"], Role(row["role"]), row["created_at_unix_ms"], row["seen_at_unix_ms"]
    )


def _end_all(connection: Connection, name: str) -> None:
    if _locked_user(connection, name) is None:
        raise InputError(f"there is no user {name!r}; cloud-service users list names them")
    connection.execute(delete(sessions).where(sessions.c.user_name == name))
