from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest
from sqlalchemy import Engine, insert

from cloud_service.access.action_log import Entry, detail_json
from cloud_service.fleet.tally import SparseHistogram, Tally
from cloud_service.rollout.counting import stage_figures
from cloud_service.rollout.engine import advance
from cloud_service.rollout.orders import abort, pause, promote, start, take_back
from cloud_service.rollout.plan import Plan, Release, Stage
from cloud_service.rollout.records import Decision, DeviceFailure, FieldSide, Rollout, RolloutState, Seen, Step
from cloud_service.storage import tables
from cloud_service.storage.action_store import ActionLog, Wanted
from cloud_service.storage.encoding import encode_tally
from cloud_service.storage.rollout_reader import RingShare, RolloutReader
from cloud_service.storage.rollout_store import RolloutStore
from cloud_service.storage.schema import migrate
from shared.errors import RolloutError
from shared.types import AuditCounts, RequestCounters
from shared.update.report import ErrorKind, UpdateReport
from tests.support.rollout_parts import MODEL, NEW, NOW_S, OLD, a_plan, a_report, broken, committed


def entry_of(rollout: Rollout, decision: Decision) -> Entry:
    detail = detail_json({"reason": decision.reason})
    return Entry(1, "anna", "operator", f"rollout.{decision.kind.value}", f"{rollout.id}/{decision.ring}", detail)


@pytest.fixture
def store(writing: Engine) -> RolloutStore:
    migrate(writing)
    return RolloutStore(writing)


@pytest.fixture
def reader(reading: Engine) -> RolloutReader:
    return RolloutReader(reading)


def begun(store: RolloutStore, rollout_id: str = "r1", plan: Plan | None = None) -> Rollout:
    step = start(rollout_id, plan or a_plan(), "anna", NOW_S)
    store.add(step, entry_of)
    return step.rollout


def advanced(store: RolloutStore, rollout_id: str, reports: Sequence[UpdateReport] = (), now_s: int = NOW_S) -> Step:
    return store.change(rollout_id, lambda it: advance(it, Seen(stage_figures(it, reports)), now_s), entry_of)


def ended(store: RolloutStore, rollout_id: str = "r1") -> Step:
    """Promoted through all of its rings."""
    for _ in range(3):
        step = store.change(rollout_id, lambda it: promote(it, "anna", NOW_S), entry_of)
    return step


def test_a_rollout_is_kept_whole(store: RolloutStore, reader: RolloutReader) -> None:
    begun(store)
    step = advanced(store, "r1", [committed("d1", "r1"), a_report("d2")])
    assert store.active() == [step.rollout]
    assert reader.rollout("r1") == step.rollout
    assert reader.rollouts() == [step.rollout]
    assert reader.rollout("other") is None


def test_a_decision_its_orders_and_its_entry_in_the_log_go_together(store: RolloutStore, reading: Engine) -> None:
    begun(store)
    advanced(store, "r1")
    (order,) = store.orders(unsigned=True)
    assert (order.ring, order.rollout_id) == ("canary", "r1")
    assert order.assignment is not None and order.assignment.arms[0].version == NEW.version
    actions = [each.entry.action for each in ActionLog(reading).read(Wanted(10))]
    assert actions == ["rollout.open", "rollout.start"]
    assert ActionLog(reading).verify().problem == ""


def test_what_fails_half_way_leaves_nothing_behind(store: RolloutStore, reading: Engine) -> None:
    begun(store)

    def failing(rollout: Rollout, decision: Decision) -> Entry:
        raise RolloutError("no entry can be made")

    with pytest.raises(RolloutError):
        store.change("r1", lambda it: promote(it, "anna", NOW_S), failing)
    assert store.orders() == []
    assert store.active()[0].current is None


def test_a_ring_and_model_have_one_rollout_under_way(store: RolloutStore) -> None:
    begun(store)
    with pytest.raises(RolloutError, match="ring canary has rollout r1 of intents under way"):
        begun(store, "r2", a_plan(Stage("canary")))
    begun(store, "r3", a_plan(Stage("other")))
    begun(store, "r4", replace(a_plan(), model="faces"))


def test_of_many_that_begin_at_once_one_gets_the_ring(store: RolloutStore) -> None:
    outcomes: list[bool] = []

    def begin(number: int) -> None:
        try:
            begun(store, f"r{number}")
        except RolloutError:
            outcomes.append(False)
        else:
            outcomes.append(True)

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 5 + [True]
    assert len(store.active()) == 1


def test_a_broken_rollout_never_blocks_the_next_one(store: RolloutStore) -> None:
    begun(store)
    advanced(store, "r1")
    step = advanced(store, "r1", [broken(f"d{number}", "r1") for number in range(3)])
    assert step.rollout.state is RolloutState.ROLLED_BACK
    begun(store, "r2")
    assert [rollout.id for rollout in store.active()] == ["r2"]


def test_sequences_grow_and_only_the_newest_order_is_marked_signed(store: RolloutStore) -> None:
    begun(store)
    advanced(store, "r1")
    (forward,) = store.orders(unsigned=True)
    store.change("r1", lambda it: abort(it, "anna", NOW_S), entry_of)
    store.mark_signed(forward, NOW_S)
    (back,) = store.orders(unsigned=True)
    assert back.sequence > forward.sequence
    assert back.assignment is not None and back.assignment.arms[0].version == OLD.version
    store.mark_signed(back, NOW_S)
    assert store.orders(unsigned=True) == []
    assert [order.signed_s for order in store.orders()] == [NOW_S]


def test_a_ring_without_a_way_back_is_told_nothing(store: RolloutStore) -> None:
    begun(store, plan=a_plan(fallbacks=()))
    advanced(store, "r1")
    store.change("r1", lambda it: abort(it, "anna", NOW_S), entry_of)
    assert [order.assignment for order in store.orders(unsigned=True)] == [None]


def test_a_rollout_that_is_done_is_taken_back_unless_another_came_after_it(store: RolloutStore) -> None:
    begun(store)
    assert ended(store).rollout.state is RolloutState.DONE
    begun(store, "r2", a_plan(Stage("stable")))
    with pytest.raises(RolloutError, match="ring stable is told what to run by rollout r2"):
        store.change("r1", lambda it: take_back(it, "anna", NOW_S), entry_of)
    store.change("r2", lambda it: abort(it, "anna", NOW_S), entry_of)
    store.change("r1", lambda it: take_back(it, "anna", NOW_S), entry_of)
    versions = [order.assignment.arms[0].version for order in store.orders() if order.assignment]
    assert versions == [OLD.version, OLD.version]


def test_what_is_refused_changes_nothing(store: RolloutStore) -> None:
    begun(store)
    store.change("r1", lambda it: pause(it, "anna", NOW_S), entry_of)
    with pytest.raises(RolloutError, match="is paused and cannot be paused"):
        store.change("r1", lambda it: pause(it, "anna", NOW_S), entry_of)
    with pytest.raises(RolloutError, match="there is no rollout r9"):
        store.change("r9", lambda it: pause(it, "anna", NOW_S), entry_of)


def test_the_newest_report_of_a_device_and_model_is_kept(store: RolloutStore, reader: RolloutReader) -> None:
    store.save_reports([(a_report("d1"), NOW_S), (a_report("d2"), NOW_S)])
    newest = broken("d1", "r1")
    store.save_reports([(newest, NOW_S + 1)])
    assert sorted(store.load_reports(), key=lambda report: report.device_id) == [newest, a_report("d2")]
    assert reader.report("d1", MODEL) == newest
    assert reader.report("d9", MODEL) is None


def test_why_a_device_failed_is_still_known_when_it_has_gone_back(store: RolloutStore, reader: RolloutReader) -> None:
    begun(store)
    store.save_reports([(broken("d1", "r1"), NOW_S), (broken("d2", "never-was"), NOW_S)])
    store.save_reports([(a_report("d1", "r1"), NOW_S + 1)])
    assert reader.failures("r1") == [DeviceFailure("d1", "canary", ErrorKind.PROVING, "it is proving", NOW_S)]
    assert reader.failure_counts("r1") == {"canary": {ErrorKind.PROVING: 1}}
    assert reader.failures("never-was") == []


def test_a_page_sees_what_the_devices_of_each_ring_run(store: RolloutStore, reader: RolloutReader) -> None:
    reports = [committed("d1", "r1"), committed("d2", "r1"), a_report("d3", ring="stable")]
    store.save_reports((report, NOW_S) for report in reports)
    assert reader.ring_shares(MODEL) == [
        RingShare("canary", NEW.version, NEW.release, NEW.gate_digest, 2),
        RingShare("stable", OLD.version, OLD.release, OLD.gate_digest, 1),
    ]


def count(
    engine: Engine, starts_s: int, version: str, *, width_s: int = 60, ring: str = "canary", variant: str = ""
) -> None:
    tally = Tally(
        RequestCounters(received=10, accepted=10, edge=8, cloud=2, wanted=2),
        {"edge": SparseHistogram({10: 10}, 50.0)},
        {},
        AuditCounts(chosen=3, agreed=2, disagreed=1),
    )
    row = {"width_s": width_s, "device_id": "", "starts_s": starts_s, "model": MODEL, "model_version": version}
    with engine.begin() as connection:
        connection.execute(
            insert(tables.counts).values({**row, "variant": variant, "ring": ring, **encode_tally(tally)})
        )


def side(engine: Engine, reader: RolloutReader, new: Release, old: Release | None) -> tuple[FieldSide, FieldSide]:
    field = reader.field_figures(MODEL, "canary", new, old, NOW_S, NOW_S + 7200)
    return field.new, field.old


def test_the_field_is_judged_by_version_in_its_ring(
    store: RolloutStore, writing: Engine, reader: RolloutReader
) -> None:
    for minute in range(-120, 120):
        count(writing, NOW_S + minute * 60, OLD.version)
        count(writing, NOW_S + minute * 60, OLD.version, ring="stable")
    count(writing, NOW_S + 60, NEW.version)
    new, old = side(writing, reader, NEW, OLD)
    assert (new.requests, new.wanted, new.audited, new.disagreed) == (10, 2, 3, 1)
    assert old.requests == 10 * (60 + 120)
    assert new.latency_ms == old.latency_ms and new.latency_ms is not None
    assert side(writing, reader, NEW, None)[1] == old


def test_a_new_gate_for_the_same_version_is_judged_by_before_and_after(
    store: RolloutStore, writing: Engine, reader: RolloutReader
) -> None:
    for minute in range(-60, 30):
        count(writing, NOW_S + minute * 60, OLD.version)
    new, old = side(writing, reader, replace(OLD, gate_digest="c" * 64), OLD)
    assert (new.requests, old.requests) == (300, 600)


def test_both_arms_of_a_test_are_counted_since_it_began(
    store: RolloutStore, writing: Engine, reader: RolloutReader
) -> None:
    for minute in range(-5, 20):
        for version in (OLD.version, NEW.version):
            count(writing, NOW_S + minute * 60, version)
    arms = reader.arm_figures(MODEL, "canary", NEW, OLD, NOW_S, NOW_S + 3600)
    assert (arms.new.audited, arms.new.disagreed) == (arms.old.audited, arms.old.disagreed) == (60, 20)


@pytest.mark.parametrize(("by_key", "old_requests"), [(False, 30), (True, 70)], ids=["by device", "by key"])
def test_arms_of_one_version_are_told_apart_by_their_variants(
    store: RolloutStore, writing: Engine, reader: RolloutReader, by_key: bool, old_requests: int
) -> None:
    for variant, minutes in (("a", 3), ("b", 2), ("", 4)):
        for minute in range(minutes):
            count(writing, NOW_S + minute * 60, OLD.version, variant=variant)
    new = replace(OLD, gate_digest="c" * 64)
    arms = reader.arm_figures(MODEL, "canary", new, OLD, NOW_S, NOW_S + 3600, by_key=by_key)
    assert (arms.new.requests, arms.old.requests) == (20, old_requests)


def test_a_store_that_is_not_there_holds_no_rollouts(reader: RolloutReader) -> None:
    assert reader.rollouts() == [] and reader.orders() == [] and reader.ring_shares(MODEL) == []
