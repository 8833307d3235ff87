from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update

from cloud_service.rollout.conductor import Conductor
from cloud_service.rollout.desk import Order, RolloutDesk
from cloud_service.rollout.device_order import DeviceOrder
from cloud_service.rollout.log_entries import Actor
from cloud_service.rollout.messenger import Messenger
from cloud_service.rollout.pin_desk import PinDesk
from cloud_service.rollout.plan import Release, Stage, Thresholds
from cloud_service.rollout.records import RolloutState, StageFigures
from cloud_service.rollout.service import RolloutService
from cloud_service.rollout.telling import arm_of
from cloud_service.storage.action_store import ActionLog, Wanted
from cloud_service.storage.engine import open_engine
from cloud_service.storage.rollout_pins import PinStore
from cloud_service.storage.rollout_reader import RolloutReader
from cloud_service.storage.rollout_store import RolloutStore
from cloud_service.storage.rollout_tables import rollouts
from cloud_service.storage.schema import migrate
from cloud_service.storage.transactions import open_durable_engine
from shared import topics
from shared.errors import BrokerError, RegistryError, RolloutError
from shared.mqtt import BrokerStatistics, Message
from shared.update.assignment import Assignment
from shared.update.codec import decode_hint, encode_report
from shared.update.report import InstalledRelease, UpdateReport
from tests.support.fake_clock import FakeClock
from tests.support.rollout_parts import MODEL, NEW, OLD, a_plan, a_report, broken, committed

ANNA = Actor("anna", "operator")
CANARY = f"rings/canary/{MODEL}.json"
STABLE = f"rings/stable/{MODEL}.json"


class SigningDirector:
    """Implements the port; refuses what is not above the sequence before, as the real one does."""

    def __init__(self) -> None:
        self.signed: dict[str, Assignment] = {}
        self.fault = ""

    def assign_many(self, assignments: Mapping[str, Assignment]) -> None:
        if self.fault:
            raise RegistryError(self.fault)
        for name, assignment in assignments.items():
            before = self.signed.get(name)
            if before == assignment:
                continue
            if before and assignment.sequence <= before.sequence:
                raise RegistryError("the sequence is not above the one before")
            self.signed[name] = assignment

    def withdraw(self, *target_names: str) -> None:
        for name in target_names:
            self.signed.pop(name, None)

    def assignments(self) -> Mapping[str, Assignment]:
        return dict(self.signed)


class ToldBroker:
    """Keeps retained messages, while it is there."""

    def __init__(self) -> None:
        self.retained: dict[str, bytes] = {}
        self.is_there = True

    async def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        if not self.is_there:
            raise BrokerError("the broker is not connected")
        assert retain
        self.retained[topic] = payload


class Bench:
    """The service on a store of its own, with a director and a broker that can fail."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.clock = FakeClock()
        self.director = SigningDirector()
        self.broker = ToldBroker()
        self.connections = 1
        self.store = RolloutStore(open_durable_engine(url))
        self.desk = RolloutDesk(self.store, self.clock)
        self.restart()

    def begin_anew(self, name: str) -> None:
        """A store of its own again, the one before is lost."""
        self.url = f"{self.url}.{name}"
        engine = open_durable_engine(self.url)
        migrate(engine)
        self.store = RolloutStore(engine)
        self.desk = RolloutDesk(self.store, self.clock)
        self.restart()

    def restart(self) -> None:
        """A new process on the same store."""
        reader = RolloutReader(open_engine(self.url, writes=False))
        self.pins = PinStore(open_durable_engine(self.url))
        self.pin_desk = PinDesk(self.pins, self.clock, most=2)
        self.messenger = Messenger(self.store, self.director, self.broker.publish, self.clock)
        self.pin_messenger = Messenger(self.pins, self.director, self.broker.publish, self.clock)
        self.conductor = Conductor(self.store, self.pins, reader, self.clock)
        self.service = RolloutService(
            self.store,
            self.pins,
            self.conductor,
            (self.messenger, self.pin_messenger),
            self.clock,
            interval_s=1.0,
            kept_days=30,
            link=self.link,
        )

    def link(self) -> BrokerStatistics:
        return BrokerStatistics(self.broker.is_there, self.connections, 0, 0, "")

    async def hear(self, *reports: UpdateReport) -> None:
        for report in reports:
            topic = topics.reported(report.device_id, report.model)
            await self.service.take(Message(topic, encode_report(report), retained=False))

    def hinted(self, ring: str) -> int:
        """The sequence that a ring was told of last; 0 where it never was."""
        payload = self.broker.retained.get(topics.ring_desired(ring, MODEL))
        return decode_hint(payload).sequence if payload else 0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    url = f"sqlite:///{tmp_path / 'fleet.sqlite'}"
    engine = open_durable_engine(url)
    migrate(engine)
    engine.dispose()
    return Bench(url)


pytestmark = pytest.mark.anyio


async def test_a_ring_is_told_only_what_has_been_signed(bench: Bench) -> None:
    bench.desk.start(a_plan(), ANNA)
    bench.director.fault = "an online key is not here"
    await bench.service.turn()
    assert bench.hinted("canary") == 0
    assert bench.messenger.problem == "ring canary waits for the director: an online key is not here"
    bench.director.fault = ""
    await bench.service.turn()
    assert bench.hinted("canary") == bench.director.signed[CANARY].sequence
    assert bench.messenger.problem == ""


async def test_what_was_signed_before_a_crash_is_told_after_it(bench: Bench) -> None:
    bench.desk.start(a_plan(), ANNA)
    bench.broker.is_there = False
    await bench.service.turn()
    bench.restart()
    bench.broker.is_there = True
    await bench.service.turn()
    assert bench.hinted("canary") == bench.director.signed[CANARY].sequence


async def test_a_crash_between_signing_and_noting_it_signs_nothing_twice(bench: Bench) -> None:
    bench.desk.start(a_plan(), ANNA)
    bench.conductor.advance()
    (order,) = bench.store.orders(unsigned=True)
    assert order.assignment is not None
    bench.director.assign_many({CANARY: order.assignment})
    bench.restart()
    await bench.service.turn()
    assert bench.messenger.problem == "" and bench.store.orders(unsigned=True) == []


async def test_a_broker_that_comes_back_empty_is_told_everything(bench: Bench) -> None:
    bench.desk.start(a_plan(), ANNA)
    await bench.service.turn()
    bench.broker.retained.clear()
    await bench.service.turn()
    assert bench.hinted("canary") == 0
    await bench.service.hears_of_connection()
    await bench.service.turn()
    assert bench.hinted("canary") == bench.director.signed[CANARY].sequence


async def test_a_rollout_goes_on_after_the_service_was_restarted(bench: Bench) -> None:
    rollout = bench.desk.start(a_plan(), ANNA)
    await bench.service.turn()
    await bench.hear(committed("d1", rollout.id))
    await bench.service.turn()
    bench.restart()
    bench.clock.advance(61)
    await bench.service.turn()
    assert STABLE not in bench.director.signed
    bench.clock.advance(31)
    await bench.service.turn()
    assert STABLE in bench.director.signed


async def test_what_devices_said_while_nobody_listened_is_heard_before_the_next_ring_is_opened(bench: Bench) -> None:
    rollout = bench.desk.start(a_plan(), ANNA)
    await bench.service.turn()
    await bench.hear(committed("d1", rollout.id))
    await bench.service.turn()
    bench.restart()
    bench.clock.advance(3600)
    await bench.service.turn()
    assert STABLE not in bench.director.signed
    await bench.hear(*(broken(f"d{number}", rollout.id) for number in range(1, 4)))
    bench.clock.advance(31)
    await bench.service.turn()
    assert STABLE not in bench.director.signed
    assert bench.director.signed[CANARY].arms[0].version == OLD.version


async def test_no_ring_is_opened_while_the_broker_is_away_nor_right_after(bench: Bench) -> None:
    rollout = bench.desk.start(a_plan(), ANNA)
    await bench.service.turn()
    await bench.hear(committed("d1", rollout.id))
    await bench.service.turn()
    bench.broker.is_there = False
    for _ in range(3):
        bench.clock.advance(61)
        await bench.service.turn()
    bench.broker.is_there, bench.connections = True, 2
    await bench.service.turn()
    bench.clock.advance(1)
    await bench.service.turn()
    assert STABLE not in bench.director.signed
    bench.clock.advance(31)
    await bench.service.turn()
    assert STABLE in bench.director.signed


@pytest.mark.parametrize("jump_s", [86_400.0, -86_400.0])
async def test_a_clock_that_jumps_neither_shortens_nor_stops_a_soak_time(bench: Bench, jump_s: float) -> None:
    rollout = bench.desk.start(a_plan(), ANNA)
    await bench.service.turn()
    bench.clock.advance(31)
    await bench.hear(committed("d1", rollout.id))
    await bench.service.turn()
    bench.clock.jump(jump_s)
    await bench.service.turn()
    bench.clock.advance(59)
    await bench.service.turn()
    assert STABLE not in bench.director.signed
    bench.clock.advance(2)
    await bench.service.turn()
    assert STABLE in bench.director.signed


async def test_an_order_outruns_what_was_signed_before_the_clock_was_put_right(bench: Bench) -> None:
    bench.clock.jump(10 * 365 * 86_400)
    bench.desk.start(a_plan(), ANNA)
    await bench.service.turn()
    ahead = bench.director.signed[CANARY].sequence
    bench.clock.jump(-10 * 365 * 86_400)
    bench.begin_anew("later")
    bench.desk.start(a_plan(), ANNA)
    await bench.service.turn()
    assert bench.messenger.problem == ""
    assert bench.director.signed[CANARY].sequence == bench.hinted("canary") == ahead + 1


async def test_a_rollout_that_cannot_be_read_holds_up_no_other(bench: Bench) -> None:
    unreadable = bench.desk.start(a_plan(Stage("elsewhere")), ANNA)
    engine = open_durable_engine(bench.url)
    with engine.begin() as connection:
        changed = update(rollouts).where(rollouts.c.id == unreadable.id).values(plan='{"later": 1}')
        connection.execute(changed)
    engine.dispose()
    bench.desk.start(a_plan(), ANNA)
    await bench.service.turn()
    assert list(bench.director.signed) == [CANARY]


async def test_a_report_with_absurd_counts_is_left_alone(bench: Bench) -> None:
    absurd = replace(committed("d1", "r1"), active=InstalledRelease("2", "", "", 2**64 - 1))
    await bench.hear(absurd, committed("d2", "r1"))
    await bench.service.turn()
    assert [report.device_id for report in bench.store.load_reports()] == ["d2"]


async def test_rollouts_are_forgotten_long_after_their_end_unless_a_ring_still_runs_by_them(bench: Bench) -> None:
    first = bench.desk.start(a_plan(), ANNA)
    await bench.service.turn()
    bench.desk.give(Order.ABORT, first.id, ANNA)
    second = bench.desk.start(a_plan(), ANNA)
    await bench.service.turn()
    bench.desk.give(Order.ABORT_KEEP, second.id, ANNA)
    bench.clock.advance(31 * 86_400)
    await bench.service.turn()
    reader = RolloutReader(open_engine(bench.url, writes=False))
    assert [each.id for each in reader.rollouts()] == [second.id]


async def test_a_bad_bundle_is_taken_back_in_the_turn_that_hears_of_it(bench: Bench) -> None:
    rollout = bench.desk.start(a_plan(), ANNA)
    await bench.service.turn()
    assert bench.director.signed[CANARY].arms[0].version == NEW.version
    await bench.hear(*(broken(f"d{number}", rollout.id) for number in range(3)))
    await bench.service.turn()
    assert bench.director.signed[CANARY].arms[0].version == OLD.version
    assert bench.hinted("canary") == bench.director.signed[CANARY].sequence
    assert list(bench.director.signed) == [CANARY]


async def test_a_ring_with_nothing_to_go_back_to_is_told_nothing_any_more(bench: Bench) -> None:
    rollout = bench.desk.start(a_plan(fallbacks=()), ANNA)
    await bench.service.turn()
    bench.desk.give(Order.ABORT, rollout.id, ANNA)
    await bench.service.turn()
    assert bench.director.signed == {}


async def test_reports_wait_while_the_store_is_not_set_up(tmp_path: Path) -> None:
    bench = Bench(f"sqlite:///{tmp_path / 'later.sqlite'}")
    await bench.hear(committed("d1", "r1"))
    await bench.service.turn()
    assert bench.service.statistics().waiting == 1
    engine = open_durable_engine(bench.url)
    migrate(engine)
    engine.dispose()
    await bench.service.turn()
    assert [report.device_id for report in bench.store.load_reports()] == ["d1"]


async def test_orders_of_people_are_carried_out(bench: Bench) -> None:
    rollout = bench.desk.start(a_plan(needs_approval=True), ANNA)
    await bench.service.turn()
    assert bench.director.signed == {}
    bench.desk.give(Order.APPROVE, rollout.id, Actor("ben", "operator"))
    await bench.service.turn()
    assert CANARY in bench.director.signed
    assert bench.desk.give(Order.ABORT_KEEP, rollout.id, ANNA).state is RolloutState.ABORTED
    await bench.service.turn()
    assert bench.director.signed[CANARY].arms[0].version == NEW.version


DOCK = "dock-1"
OF_DOCK = f"devices/{DOCK}/{MODEL}.json"
DOCK_TOPIC = topics.desired(DOCK, MODEL)


def pin(bench: Bench, device_id: str = DOCK, release: Release = NEW) -> DeviceOrder:
    assignment = Assignment(MODEL, bench.pin_desk.new_id(), 0, 1, (arm_of(release),))
    return bench.pin_desk.pin(device_id, assignment, ANNA, "under repair")


async def test_a_pinned_device_is_told_once_it_is_signed_and_until_it_is_unpinned(bench: Bench) -> None:
    order = pin(bench)
    bench.director.fault = "an online key is not here"
    await bench.service.turn()
    assert DOCK_TOPIC not in bench.broker.retained
    assert bench.pin_messenger.problem == "device dock-1 waits for the director: an online key is not here"
    bench.director.fault = ""
    await bench.service.turn()
    assert bench.director.signed[OF_DOCK] == order.assignment
    hint = decode_hint(bench.broker.retained[DOCK_TOPIC])
    assert (hint.rollout, hint.sequence) == (order.rollout_id, order.sequence)
    bench.pin_desk.unpin(DOCK, MODEL, ANNA, "")
    await bench.service.turn()
    assert OF_DOCK not in bench.director.signed
    assert bench.broker.retained[DOCK_TOPIC] == b""


async def test_a_broker_that_comes_back_empty_and_a_service_that_starts_again_tell_pinned_devices_anew(
    bench: Bench,
) -> None:
    order = pin(bench)
    await bench.service.turn()
    for again in (bench.service.hears_of_connection, None):
        bench.broker.retained.clear()
        if again:
            await again()
        else:
            bench.restart()
        await bench.service.turn()
        assert decode_hint(bench.broker.retained[DOCK_TOPIC]).sequence == order.sequence


async def test_each_pin_of_a_device_has_a_sequence_above_all_before_it(bench: Bench) -> None:
    sequences, names = [], set()
    for release in (NEW, OLD, NEW):
        order = pin(bench, release=release)
        await bench.service.turn()
        assert bench.director.signed[OF_DOCK] == order.assignment
        ended = bench.pin_desk.unpin(DOCK, MODEL, ANNA, "")
        await bench.service.turn()
        sequences += [order.sequence, ended.sequence]
        names.add(order.rollout_id)
    assert sequences == sorted(set(sequences)) and len(names) == 3


async def test_a_pin_outruns_what_the_director_signed_for_the_device_before_the_store_was_lost(bench: Bench) -> None:
    bench.clock.jump(10 * 365 * 86_400)
    ahead = pin(bench).sequence
    await bench.service.turn()
    bench.clock.jump(-10 * 365 * 86_400)
    bench.begin_anew("later")
    pin(bench, release=OLD)
    await bench.service.turn()
    assert bench.pin_messenger.problem == ""
    assert bench.director.signed[OF_DOCK].sequence == ahead + 1
    assert bench.director.signed[OF_DOCK].arms[0].version == OLD.version


async def test_a_pinned_device_neither_stops_a_stage_nor_lets_it_pass(bench: Bench) -> None:
    for name in ("d1", "d2"):
        pin(bench, name, OLD)
    rollout = bench.desk.start(a_plan(thresholds=Thresholds(min_devices=1)), ANNA)
    await bench.service.turn()
    await bench.hear(committed("d1", rollout.id), broken("d2", rollout.id), a_report("d3", rollout.id))
    await bench.service.turn()
    (seen,) = bench.store.active()
    assert seen.state is RolloutState.RUNNING
    assert seen.stages[0].figures == StageFigures(eligible=1, under_way=1)
    bench.pin_desk.unpin("d1", MODEL, ANNA, "")
    await bench.service.turn()
    (seen,) = bench.store.active()
    assert (seen.stages[0].figures.eligible, seen.stages[0].figures.committed) == (2, 1)


async def test_more_pins_than_the_director_would_sign_are_not_begun(bench: Bench) -> None:
    pin(bench)
    pin(bench, "dock-2")
    with pytest.raises(RolloutError, match="2 devices are pinned, and 2 may be"):
        pin(bench, "dock-3")
    pin(bench, release=OLD)
    bench.pin_desk.unpin("dock-2", MODEL, ANNA, "")
    pin(bench, "dock-3")
    assert bench.pins.pinned(MODEL) == {DOCK, "dock-3"}


async def test_who_pins_and_unpins_stands_in_the_log_and_what_was_refused_does_not(bench: Bench) -> None:
    pin(bench)
    bench.pin_desk.unpin(DOCK, MODEL, ANNA, "it is mended")
    with pytest.raises(RolloutError, match="device dock-1 is not pinned to a release of intents"):
        bench.pin_desk.unpin(DOCK, MODEL, ANNA, "")
    log = ActionLog(open_engine(bench.url, writes=False))
    assert log.verify().problem == ""
    assert [(each.entry.action, each.entry.subject, each.entry.detail) for each in log.read(Wanted(9))] == [
        ("rollout.unpin", f"{MODEL}/{DOCK}", '{"reason":"it is mended","version":"2"}'),
        ("rollout.pin", f"{MODEL}/{DOCK}", '{"reason":"under repair","version":"2"}'),
    ]


async def test_pins_that_ended_long_ago_are_forgotten_and_those_in_force_are_not(bench: Bench) -> None:
    pin(bench)
    pin(bench, "dock-2")
    bench.pin_desk.unpin("dock-2", MODEL, ANNA, "")
    await bench.service.turn()
    bench.clock.advance(31 * 86_400)
    await bench.service.turn()
    assert [order.device_id for order in bench.pins.orders()] == [DOCK]
