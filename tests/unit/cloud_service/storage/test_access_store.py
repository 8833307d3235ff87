from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from cloud_service.access.action_log import BEGINNING, Entry
from cloud_service.access.roles import Role
from cloud_service.access.sessions import Session, SessionLimits
from cloud_service.storage.access_store import AccessStore, Known, User
from cloud_service.storage.action_store import ActionLog, Wanted, append
from cloud_service.storage.schema import migrate
from cloud_service.storage.transactions import open_durable_engine, transaction
from shared.errors import InputError, StorageError

NOW_MS = 1_800_000_000_000
LIMITS = SessionLimits(idle_ms=1_800_000, longest_ms=43_200_000)
ADA = User("ada", Role.ADMIN, "hash-of-ada", NOW_MS)


def entry(action: str = "test.act", actor: str = "ada", detail: str = "{}") -> Entry:
    return Entry(NOW_MS, actor, "admin", action, "something", detail)


def session(name: str, *, at_ms: int = NOW_MS) -> Session:
    return Session(name * 64, "ada", Role.ADMIN, at_ms, at_ms)


@pytest.fixture
def durable(url: str) -> Iterator[Engine]:
    engine = open_durable_engine(url)
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def store(durable: Engine, reading: Engine) -> AccessStore:
    return AccessStore(reading, durable)


@pytest.fixture
def log(durable: Engine, reading: Engine) -> ActionLog:
    return ActionLog(reading)


def signed_in(store: AccessStore, *names: str, at_ms: int = NOW_MS) -> None:
    for name in names:
        store.begin_session(ADA, session(name, at_ms=at_ms), None, LIMITS, entry("user.sign_in"))


def is_there(store: AccessStore, name: str) -> bool:
    return store.look(name * 64).session is not None


def test_what_goes_wrong_in_the_store_is_told_without_what_was_to_be_written(durable: Engine) -> None:
    durable.dispose()
    with pytest.raises(StorageError) as failure, transaction(durable) as connection:
        connection.execute(text("INSERT INTO nowhere VALUES (:password_hash)"), {"password_hash": "hash-of-ada"})
    assert "nowhere" in str(failure.value) and "hash-of-ada" not in str(failure.value)


def test_a_store_that_is_not_set_up_has_no_users_and_an_empty_log(url: str, reading: Engine) -> None:
    store = AccessStore(reading, reading)
    assert store.look("a" * 64) == Known(None, False) and store.user("ada") is None and store.users() == []
    log = ActionLog(reading)
    assert log.read(Wanted(10)) == [] and log.kinds() == [] and log.head() == BEGINNING
    assert not log.verify().problem


def test_a_session_is_found_with_its_users_role(store: AccessStore) -> None:
    assert store.look(None) == Known(None, False)
    store.add_user(ADA, entry("user.add"))
    signed_in(store, "a")
    assert store.look("a" * 64) == Known(session("a"), True)
    assert store.look("b" * 64) == Known(None, True)


def test_signing_in_again_takes_the_old_sessions_place_and_forgets_what_is_over(store: AccessStore) -> None:
    store.add_user(ADA, entry())
    signed_in(store, "a", "b")
    signed_in(store, "c", at_ms=NOW_MS - LIMITS.idle_ms)
    store.begin_session(ADA, session("d"), "a" * 64, LIMITS, entry())
    assert [is_there(store, name) for name in "abcd"] == [False, True, False, True]


@pytest.mark.parametrize("change", ["password", "role", "removal"])
def test_all_sessions_of_a_user_end_when_the_user_changes(store: AccessStore, change: str) -> None:
    store.add_user(ADA, entry())
    store.add_user(User("bob", Role.VIEWER, "hash", NOW_MS), entry())
    signed_in(store, "a", "b")
    bobs = Session("c" * 64, "bob", Role.VIEWER, NOW_MS, NOW_MS)
    store.begin_session(User("bob", Role.VIEWER, "hash", NOW_MS), bobs, None, LIMITS, entry())
    if change == "password":
        store.set_password("ada", "another", entry())
    elif change == "role":
        store.set_role("ada", Role.VIEWER, entry())
    else:
        store.remove_user("ada", entry())
    assert [is_there(store, name) for name in "abc"] == [False, False, True]


def test_who_was_changed_while_signing_in_does_not_get_in(store: AccessStore, log: ActionLog) -> None:
    store.add_user(ADA, entry("user.add"))
    store.set_password("ada", "another", entry("user.set_password"))
    with pytest.raises(InputError, match="changed just now"):
        signed_in(store, "a")
    assert not is_there(store, "a") and "user.sign_in" not in log.kinds()


def test_a_session_ends_alone(store: AccessStore) -> None:
    store.add_user(ADA, entry())
    signed_in(store, "a", "b")
    store.end_session("a" * 64, entry())
    assert [is_there(store, name) for name in "ab"] == [False, True]


def test_use_is_noted(store: AccessStore) -> None:
    store.add_user(ADA, entry())
    signed_in(store, "a")
    store.touch("a" * 64, NOW_MS + 5)
    found = store.look("a" * 64).session
    assert found is not None and found.seen_at_unix_ms == NOW_MS + 5


def test_a_hash_is_renewed_only_where_the_password_is_still_the_same(store: AccessStore) -> None:
    store.add_user(ADA, entry())
    signed_in(store, "a")
    store.renew_hash("ada", "of yesterday", "newer")
    assert store.user("ada") == ADA
    store.renew_hash("ada", ADA.password_hash, "newer")
    found = store.user("ada")
    assert found is not None and found.password_hash == "newer" and is_there(store, "a")


def test_a_name_is_taken_once_and_a_stranger_cannot_be_changed(store: AccessStore, log: ActionLog) -> None:
    store.add_user(ADA, entry())
    with pytest.raises(InputError, match="there already"):
        store.add_user(ADA, entry())
    with pytest.raises(InputError, match="no user 'eve'"):
        store.remove_user("eve", entry())
    with pytest.raises(InputError, match="no user 'eve'"):
        store.set_role("eve", Role.ADMIN, entry())
    with pytest.raises(InputError, match="no user 'eve'"):
        store.set_password("eve", "hash", entry())
    assert log.verify().count == 1


def test_an_action_and_its_entry_are_both_there_or_neither(store: AccessStore, log: ActionLog) -> None:
    def fails(connection: Connection) -> None:
        connection.execute(text("UPDATE users SET role = 'viewer'"))
        raise InputError("ordered by the test")

    store.add_user(ADA, entry())
    with pytest.raises(InputError):
        store.act(entry("test.failed"), fails)
    with pytest.raises(StorageError):
        store.act(entry("test.refused"), lambda connection: connection.execute(text("DELETE FROM nothing")))
    assert store.user("ada") == ADA and log.verify().count == 1


def test_the_log_is_read_newest_first_by_actor_action_and_page(store: AccessStore, log: ActionLog) -> None:
    for place in range(6):
        store.act(entry(f"kind.{place % 2}", "ada" if place < 3 else "bob"), lambda connection: None)
    assert [action.seq for action in log.read(Wanted(4))] == [6, 5, 4, 3]
    assert [action.seq for action in log.read(Wanted(4, before_seq=3))] == [2, 1]
    assert [action.seq for action in log.read(Wanted(4, actor="ada", action="kind.0"))] == [3, 1]
    assert log.kinds() == ["kind.0", "kind.1"] and log.head() == log.read(Wanted(1))[0].hash


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE action_log SET actor = 'eve' WHERE seq = 2",
        "DELETE FROM action_log WHERE seq = 3",
        "DELETE FROM action_log",
        "INSERT INTO action_log SELECT seq + 5, at_unix_ms, actor, role, action, subject, detail, previous_hash, hash"
        " FROM action_log WHERE seq = 3",
        "INSERT INTO action_log SELECT 0, at_unix_ms, actor, role, action, subject, detail, previous_hash, hash"
        " FROM action_log WHERE seq = 3",
    ],
)
def test_the_database_refuses_to_change_what_was_logged(
    store: AccessStore, log: ActionLog, durable: Engine, statement: str
) -> None:
    for _ in range(3):
        store.act(entry(), lambda connection: None)
    with pytest.raises(SQLAlchemyError, match="action_log takes"), durable.begin() as connection:
        connection.execute(text(statement))
    assert log.verify().count == 3 and not log.verify().problem


def test_neither_replace_nor_truncate_goes_round_that(store: AccessStore, log: ActionLog, durable: Engine) -> None:
    for _ in range(3):
        store.act(entry(), lambda connection: None)
    statement = (
        "TRUNCATE action_log"
        if durable.dialect.name == "postgresql"
        else "INSERT OR REPLACE INTO action_log SELECT 2, at_unix_ms, 'eve', role, action, subject, detail,"
        " previous_hash, hash FROM action_log WHERE seq = 3"
    )
    with pytest.raises(SQLAlchemyError, match="action_log takes"), durable.begin() as connection:
        connection.execute(text(statement))
    assert log.verify().count == 3 and not log.verify().problem


def test_who_owns_the_database_and_takes_the_guards_away_is_found_out(log: ActionLog, durable: Engine) -> None:
    with durable.begin() as connection:
        for _ in range(1600):
            append(connection, entry(detail='{"n":1}'))
    of = " ON action_log" if durable.dialect.name == "postgresql" else ""
    update_guard = "action_log_no_change" if of else "action_log_no_update"
    with durable.begin() as connection:
        connection.execute(text(f"DROP TRIGGER {update_guard}{of}"))
        connection.execute(text("UPDATE action_log SET detail = '{ }' WHERE seq = 1500"))
    verdict = log.verify()
    assert (verdict.count, verdict.problem) == (1499, "entry 1500 was changed")


def test_several_writers_at_once_make_one_chain(url: str, durable: Engine, log: ActionLog) -> None:
    failures: list[Exception] = []

    def write(actor: str) -> None:
        engine = open_durable_engine(url)
        try:
            for _ in range(20):
                AccessStore(engine, engine).act(entry(actor=actor), lambda connection: None)
        except StorageError as error:
            failures.append(error)
        finally:
            engine.dispose()

    writers = [threading.Thread(target=write, args=(f"writer-{number}",)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not failures
    verdict = log.verify()
    assert (verdict.count, verdict.problem) == (80, "")


def test_what_is_committed_is_on_disk(durable: Engine) -> None:
    if durable.dialect.name != "sqlite":
        pytest.skip("PostgreSQL's default")
    with durable.connect() as connection:
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
