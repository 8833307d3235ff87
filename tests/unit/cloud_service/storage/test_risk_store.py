from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine

from cloud_service.fleet.risk_reading import GateReading, RingCounts
from cloud_service.storage.engine import open_engine
from cloud_service.storage.policy_store import acknowledge, add_policy, newest_sequence
from cloud_service.storage.risk_reader import RiskReader
from cloud_service.storage.schema import migrate
from cloud_service.watch.orders import Order, make_policy
from cloud_service.watch.records import IssuedPolicy
from tests.support.watched_gates import MODEL, WatchedGates

NOW_S = 1_799_900_000


@pytest.fixture
def field(writing: Engine) -> WatchedGates:
    migrate(writing)
    field = WatchedGates(writing, NOW_S)
    field.add_gate()
    return field


def issued(field: WatchedGates, newest: int, ring: str = "canary") -> IssuedPolicy:
    order = Order({"kept-error": 0.03}, reason="to test")
    policy = make_policy(
        field.gate, order, model=MODEL, ring=ring, newest_sequence=newest, issued_by="olga", now_unix_ms=NOW_S * 1000
    )
    return IssuedPolicy(policy, ring, NOW_S)


def read_shown(reading: Engine, field: WatchedGates, ring: str = "canary", seen_since_s: int = 0) -> GateReading:
    found = RiskReader(reading).read(field.gate.digest, ring, NOW_S - 86_400, seen_since_s)
    assert found is not None and found.shown is not None
    return found.shown


def test_all_that_is_known_of_a_gate_is_read_at_one_moment(field: WatchedGates, reading: Engine) -> None:
    field.add_device("press-1", "canary")
    field.add_device("press-2", "canary", report=field.report(digest="f" * 64, refusal="no"))
    field.add_requests("canary", 100, 20, 4)
    field.add_audits("canary", 80, 2)
    field.add_alarm("canary")
    found = RiskReader(reading).read("", "", NOW_S - 86_400, 0)
    assert found is not None and found.shown is not None
    shown = found.shown
    assert shown.known == field.known
    assert {(each.ring, each.report.digest, each.devices) for each in shown.users} == {
        ("canary", field.gate.digest, 1),
        ("canary", "f" * 64, 1),
    }
    assert next(each for each in shown.users if each.report.digest == field.gate.digest).report == field.report()
    assert shown.counts == {"canary": RingCounts(100, 20, 80, 4)}
    assert [(watch.judged, watch.wrong) for watch in shown.watches] == [(80, 2)]
    assert [alarm.id for alarm in shown.alarms] == ["alarm1"]
    assert found.reported_digests == {field.gate.digest, "f" * 64}


def test_devices_that_say_the_same_are_counted_together(field: WatchedGates, reading: Engine) -> None:
    for place in range(7):
        field.add_device(f"press-{place}", "canary" if place < 4 else "everyone")
    shown = read_shown(reading, field)
    assert sorted((each.ring, each.is_present, each.devices) for each in shown.users) == [
        ("canary", True, 4),
        ("everyone", True, 3),
    ]
    later = read_shown(reading, field, seen_since_s=NOW_S + 10**6)
    assert [each.is_present for each in later.users] == [False, False] and later.rings == ("canary", "everyone")


def test_who_does_not_obey_the_newest_policy_is_named_and_who_refused_comes_first(
    field: WatchedGates, writing: Engine, reading: Engine
) -> None:
    newest = issued(field, 0)
    with writing.begin() as connection:
        add_policy(connection, newest)
    policy_id = newest.policy.policy_id
    field.add_device("a-waits", "canary")
    field.add_device("b-refused", "canary", report=field.report(refused_policy_id=policy_id, refusal="no"))
    field.add_device("c-obeys", "canary", report=field.report(policy_id=policy_id))
    field.add_device("d-elsewhere", "everyone")
    shown = read_shown(reading, field)
    assert [each.device_id for each in shown.laggards] == ["b-refused", "a-waits"]
    assert shown.laggards[0].report.refusal == "no" and shown.laggards[0].is_present
    assert read_shown(reading, field, ring="everyone").laggards == ()
    assert read_shown(reading, field, ring="no such ring").ring_shown("no such ring") == "canary"
    silent = read_shown(reading, field, seen_since_s=NOW_S + 10**6).laggards
    assert [each.device_id for each in silent] == ["a-waits", "b-refused", "c-obeys"]


def test_policies_are_read_newest_first_and_their_sequence_is_of_ring_and_model(
    field: WatchedGates, writing: Engine, reading: Engine
) -> None:
    with writing.begin() as connection:
        assert newest_sequence(connection, "canary", MODEL) == 0
        first = issued(field, 0)
        add_policy(connection, first)
        second = issued(field, newest_sequence(connection, "canary", MODEL))
        add_policy(connection, second)
        assert newest_sequence(connection, "everyone", MODEL) == 0
    reader = RiskReader(reading)
    found = reader.read(field.gate.digest, "", 0, 0)
    assert found is not None and found.shown is not None
    assert found.shown.policies == (second, first)
    assert reader.newest_sequence("canary", MODEL) == second.policy.sequence > first.policy.sequence


def test_an_alarm_is_acknowledged_by_the_first_alone(field: WatchedGates, writing: Engine, reading: Engine) -> None:
    field.add_alarm("canary")
    with writing.begin() as connection:
        assert acknowledge(connection, "alarm1", "olga", NOW_S)
        assert not acknowledge(connection, "alarm1", "ada", NOW_S + 1)
        assert not acknowledge(connection, "none", "ada", NOW_S)
    alarm = RiskReader(reading).alarm("alarm1")
    assert alarm is not None and (alarm.acknowledged_by, alarm.acknowledged_s) == ("olga", NOW_S)


def test_a_store_that_is_not_set_up_has_nothing_to_tell_and_is_not_made(tmp_path: Path) -> None:
    file = tmp_path / "none.sqlite"
    assert RiskReader(open_engine(f"sqlite:///{file}", writes=False)).read("", "", 0, 0) is None
    assert not file.exists()
