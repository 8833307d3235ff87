"""Gates, watches, alarms and orders in the store."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Engine, select, text, update

from cloud_service.fleet.book import Changes
from cloud_service.fleet.status import FleetStatus
from cloud_service.storage import tables
from cloud_service.storage.action_store import ActionLog, Wanted
from cloud_service.storage.fleet_store import FleetStore
from cloud_service.storage.watch_rows import alarm_of
from cloud_service.watch.desk import Decisions, WatchDesk
from cloud_service.watch.evidence import Evidence
from cloud_service.watch.records import GateKey
from cloud_service.watch.settings import WatchRules
from shared.errors import StorageError
from shared.types import LabelCounts, StepCounts
from tests.support.audited_model import CRITICAL, IN_FORCE, STEPS, known_gate

NOW_S = 1_800_000_000
STATUS = FleetStatus(NOW_S, NOW_S, "localhost:1883", True)
KNOWN = known_gate()
KEY = GateKey("intents", "1", KNOWN.digest, "early")


def claimed(engine: Engine) -> FleetStore:
    store = FleetStore(engine)
    store.claim(STATUS)
    store.keep_gates([KNOWN])
    return store


def bad_audits() -> Evidence:
    evidence = Evidence()
    steps = [StepCounts(step, 20, 10) for step in STEPS]
    evidence.add(IN_FORCE, steps, (), (1, 2, 3, 4), {CRITICAL: LabelCounts(20, 0, 20, 10, 20, 10)})
    return evidence


def concluded(store: FleetStore, key: GateKey = KEY, now_ms: int = NOW_S * 1000) -> Changes:
    decided: Decisions = WatchDesk(store.load_watch(), WatchRules()).plan({key: bad_audits()}, now_ms)
    return Changes(watches=decided.watches, alarms=decided.alarms, policies=decided.policies)


def test_what_was_concluded_is_loaded_again(writing: Engine) -> None:
    store = claimed(writing)
    changes = concluded(store)
    store.commit(changes, STATUS)
    records = store.load_watch()
    assert records.gates == (KNOWN,)
    assert {watch.key: watch for watch in records.watches} == changes.watches
    assert records.policies == store.unpublished() == changes.policies
    with writing.begin() as connection:
        alarms = [alarm_of(row) for row in connection.execute(select(tables.gate_alarms)).mappings()]
    assert sorted(alarms, key=lambda alarm: alarm.id) == sorted(changes.alarms, key=lambda alarm: alarm.id)
    assert len(changes.watches) == 3 and len(changes.policies) == 1 and len(changes.alarms) == 2


def test_an_order_nobody_gave_stands_in_the_log_of_actions(writing: Engine) -> None:
    store = claimed(writing)
    changes = concluded(store)
    store.commit(changes, STATUS)
    (logged,) = ActionLog(writing).read(Wanted(10))
    assert (logged.entry.actor, logged.entry.subject) == ("tandem", "early/intents")
    assert changes.policies[0].policy.policy_id in logged.entry.detail
    assert ActionLog(writing).verify().problem == ""


def test_a_commit_that_fails_concludes_nothing(writing: Engine) -> None:
    store = claimed(writing)
    changes = concluded(store)
    broken = replace(changes, policies=(*changes.policies, *changes.policies))
    with pytest.raises(StorageError):
        store.commit(broken, STATUS)
    assert store.load_watch().watches == () and store.unpublished() == ()
    assert ActionLog(writing).read(Wanted(10)) == []


def test_a_published_order_waits_no_more_and_stays_the_newest(writing: Engine) -> None:
    store = claimed(writing)
    store.commit(concluded(store), STATUS)
    (issued,) = store.unpublished()
    store.mark_published([issued.policy.policy_id], NOW_S + 1)
    assert store.unpublished() == ()
    assert store.newest_policies() == (replace(issued, published_s=NOW_S + 1),)


def test_of_each_ring_and_gate_only_the_newest_order_is_loaded(writing: Engine) -> None:
    store = claimed(writing)
    late = replace(KEY, ring="late")
    for key in (KEY, late):
        store.commit(concluded(store, key), STATUS)
    first = {issued.ring: issued for issued in store.newest_policies()}
    policy = replace(first["early"].policy, policy_id="another", sequence=first["early"].policy.sequence + 1)
    store.commit(Changes(policies=(replace(first["early"], policy=policy),)), STATUS)
    newest = {issued.ring: issued.policy.policy_id for issued in store.newest_policies()}
    assert newest == {"early": "another", "late": first["late"].policy.policy_id}


def test_a_gate_of_a_newer_tandem_is_not_watched_and_the_others_are(writing: Engine) -> None:
    store = claimed(writing)
    store.keep_gates([replace(KNOWN, digest="f" * 64)])
    newer = update(tables.gates).where(tables.gates.c.digest == "f" * 64).values(document='{"format": 99}')
    with writing.begin() as connection:
        connection.execute(newer)
    assert store.load_watch().gates == (KNOWN,)


def test_an_acknowledged_alarm_says_who_did_it(writing: Engine) -> None:
    store = claimed(writing)
    store.commit(concluded(store), STATUS)
    with writing.begin() as connection:
        connection.execute(text("UPDATE gate_alarms SET acknowledged_by = 'ada', acknowledged_s = 5"))
        rows = connection.execute(select(tables.gate_alarms)).mappings().all()
    assert {(alarm_of(row).acknowledged_by, alarm_of(row).acknowledged_s) for row in rows} == {("ada", 5)}
