from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count

import anyio
import anyio.lowlevel
import pytest

from cloud_service.fleet.buckets import DEVICE_WIDTHS_S, FLEET_WIDTHS_S, Retention
from cloud_service.fleet.ingest import BrokerState, Ingest
from cloud_service.fleet.pruning import STEADY_FOR_S
from cloud_service.fleet.tally import Tally, total
from cloud_service.watch.records import WatchKind
from shared import topics
from shared.codec import encode_presence, encode_telemetry
from shared.errors import StoreTaken
from shared.mqtt import Message
from shared.types import AuditCounts, Outcome, Presence
from tests.support.audited_model import CRITICAL, audited_model, known_gate
from tests.support.fake_clock import FakeClock
from tests.support.memory_store import MemoryStore
from tests.support.simulated_device import CountedModel

pytestmark = pytest.mark.anyio
TOPIC = topics.telemetry("d1", "intents")
RETENTION_S = 3600
RETENTION = Retention(minutes_s=RETENTION_S)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def make_ingest(
    store: MemoryStore, clock: FakeClock, *, capacity: int = 100, spent_s: Callable[[], float] = time.thread_time
) -> Ingest:
    broker = BrokerState("localhost:1883", True, "")
    return Ingest(
        store,
        clock,
        lambda: broker,
        commit_interval_s=1,
        retention=RETENTION,
        inbox_capacity=capacity,
        spent_s=spent_s,
    )


def word(model: CountedModel, *, retained: bool = False) -> Message:
    return Message(TOPIC, encode_telemetry(model.telemetry()), retained)


def payload(model: CountedModel) -> bytes:
    return encode_telemetry(model.telemetry())


async def test_an_increase_is_booked_into_every_width_for_fleet_and_device() -> None:
    store, clock, model = MemoryStore(), FakeClock(), CountedModel("d1", "b1")
    ingest = make_ingest(store, clock)
    for _ in range(3):
        model.serve(Outcome.EDGE, 2)
        await ingest.take(word(model))
        await ingest.commit()
        clock.advance(61)
    assert {store.sum(width_s).counters for width_s in FLEET_WIDTHS_S} == {model.counters()}
    assert {store.sum(width_s, "d1").counters for width_s in DEVICE_WIDTHS_S} == {model.counters()}
    assert len([key for key in store.counts if key.bucket.width_s == 60 and key.device_id == "d1"]) == 3


async def test_audits_of_a_critical_label_that_end_while_nothing_is_asked_are_judged_too() -> None:
    store, clock, model = MemoryStore(), FakeClock(), audited_model("d1")
    ingest = make_ingest(store, clock)
    store.keep_gates([known_gate()])
    model.see(CRITICAL, 30, score_bin=3)
    for judged in (0, 30):
        model.audits = AuditCounts(judged, judged)
        model.labels[CRITICAL] = replace(model.labels[CRITICAL], audited=judged)
        await ingest.take(word(model))
        await ingest.commit()
    (watch,) = (watch for key, watch in store.watches.items() if key.kind is WatchKind.DISAGREEMENT)
    assert watch.labels[CRITICAL].judged == 30


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_commit_that_fails_is_made_up_for_and_counts_nothing_twice(when: str) -> None:
    store, clock, model = MemoryStore(), FakeClock(), CountedModel("d1", "b1")
    ingest = make_ingest(store, clock)
    model.serve(Outcome.CLOUD, 2)
    await ingest.take(word(model))
    store.fail_next = when
    await ingest.commit()
    assert ingest.statistics().commit_failures == 1
    await ingest.commit()
    model.serve(Outcome.CLOUD, 2)
    await ingest.take(word(model))
    await ingest.commit()
    assert store.sum().counters == model.counters()


async def test_a_clock_that_jumps_back_breaks_no_sum() -> None:
    store, clock, model = MemoryStore(), FakeClock(), CountedModel("d1", "b1")
    ingest = make_ingest(store, clock)
    for jump_s in (0, -7200, 3600, -90):
        clock.jump(jump_s)
        model.serve(Outcome.EDGE)
        await ingest.take(word(model))
        await ingest.commit()
    assert {store.sum(width_s).counters for width_s in FLEET_WIDTHS_S} == {model.counters()}


async def test_a_message_that_goes_backwards_is_refused_and_counted() -> None:
    store, model, other = MemoryStore(), CountedModel("d1", "b1"), CountedModel("d1", "b1")
    ingest = make_ingest(store, FakeClock())
    model.serve(Outcome.EDGE, 5)
    other.sequence = 10
    for each in (model, other):
        await ingest.take(word(each))
        await ingest.commit()
    assert ingest.statistics().refused == 1
    assert store.sum().counters == model.counters()


async def test_a_word_that_is_doubled_or_overtaken_counts_nothing() -> None:
    store, model = MemoryStore(), CountedModel("d1", "b1")
    ingest = make_ingest(store, FakeClock())
    early = word(model)
    model.serve(Outcome.EDGE)
    late = word(model)
    for each in (late, late, early):
        await ingest.take(each)
        await ingest.commit()
    assert ingest.statistics().outdated == 2
    assert store.sum().counters == model.counters()


async def test_commits_that_book_a_part_each_lose_nothing_and_tell_how_long_the_oldest_waited() -> None:
    store, clock = MemoryStore(), FakeClock()
    ingest = make_ingest(store, clock)
    models = [CountedModel(f"d{number}", "b1") for number in range(5)]
    for _ in range(3):
        for model in models:
            model.serve(Outcome.EDGE)
            await ingest.take(Message(topics.telemetry(model.telemetry().device_id, "intents"), payload(model)))
        clock.advance(1)
        await ingest.commit(2)
    assert (ingest.statistics().inbox.waiting, ingest.statistics().lag_s) == (3, 3)
    assert store.status is not None and store.status.written_s == int(clock.unix_s())
    await ingest.commit()
    assert ingest.statistics().inbox.waiting == 0
    assert store.sum().counters == total(Tally(model.counters()) for model in models).counters


async def test_counts_of_an_earlier_boot_that_are_booked_late_bring_it_not_back_to_life() -> None:
    store, clock = MemoryStore(), FakeClock()
    ingest = make_ingest(store, clock)
    other, early = CountedModel("d0", "b1"), CountedModel("d1", "b1")
    for model in (other, early):
        await ingest.take(Message(topics.telemetry(model.telemetry().device_id, "intents"), payload(model)))
    await ingest.take(Message(topics.presence("d1"), encode_presence(Presence("d1", "b2", True, 0, "1"))))
    await ingest.commit(1)
    await ingest.commit(1)
    assert len(store.states) == 2 and store.devices["d1"].boot_id == "b2"


async def test_a_run_books_at_its_pace_and_the_end_books_the_rest() -> None:
    store, clock = MemoryStore(), FakeClock()
    spent_s = count(0.0, 1.0)
    ingest = make_ingest(store, clock, capacity=1000, spent_s=lambda: next(spent_s))
    for number in range(250):
        model = CountedModel(f"d{number}", "b1")
        await ingest.take(Message(topics.telemetry(f"d{number}", "intents"), payload(model)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ingest.run)
        while ingest.statistics().commits < 2:
            clock.advance(1)
            await anyio.sleep(0.001)
        tasks.cancel_scope.cancel()
    assert len(store.states) == 200
    await ingest.commit()
    assert len(store.states) == 250


async def test_a_writer_whose_store_was_taken_ends() -> None:
    store = MemoryStore()
    ingest = make_ingest(store, FakeClock())
    store.is_taken = True
    with pytest.raises(StoreTaken):
        await ingest.commit()


async def test_while_there_is_no_room_the_broker_waits() -> None:
    ingest = make_ingest(MemoryStore(), FakeClock(), capacity=1)
    first, second = (
        Message(topics.presence(name), encode_presence(Presence(name, "b1", True, 0, "1"))) for name in ("d1", "d2")
    )
    await ingest.take(first)
    with anyio.move_on_after(0.05) as waited:
        await ingest.take(second)
    assert waited.cancelled_caught
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ingest.take, second)
        await anyio.lowlevel.checkpoint()
        await ingest.commit()
    assert ingest.statistics().devices_online == 1 and ingest.statistics().inbox.waiting == 1


async def test_counts_of_ended_boots_are_forgotten_and_those_of_a_silent_device_are_not() -> None:
    store, clock = MemoryStore(), FakeClock()
    ingest = make_ingest(store, clock)
    boots = [f"b{number}" for number in range(12)]
    for boot_id in boots:
        model = CountedModel("d1", boot_id)
        model.serve(Outcome.EDGE)
        await ingest.take(word(model))
        await ingest.commit()
        clock.advance(1)
    for _ in range(3):
        clock.advance(RETENTION_S + STEADY_FOR_S)
        await ingest.commit()
    assert [series.boot_id for series in store.states] == boots[2:]
    assert store.sum().counters.edge == len(boots)
    assert store.pruned


async def test_what_the_broker_says_again_of_a_model_long_gone_counts_once() -> None:
    store, clock = MemoryStore(), FakeClock()
    ingest = make_ingest(store, clock)
    gone, now = CountedModel("d1", "b1", model="gone"), CountedModel("d1", "b2", model="now")
    for model in (gone, now):
        model.serve(Outcome.EDGE)
        await ingest.take(Message(topics.telemetry("d1", model.identity.name), encode_telemetry(model.telemetry())))
        await ingest.commit()
        clock.advance(1)
    for _ in range(3):
        clock.advance(RETENTION_S + STEADY_FOR_S)
        await ingest.commit()
    await ingest.take(Message(topics.telemetry("d1", "gone"), encode_telemetry(gone.telemetry()), retained=True))
    await ingest.commit()
    assert store.sum().counters.edge == 2


async def test_every_commit_says_that_the_service_is_alive() -> None:
    store, clock = MemoryStore(), FakeClock()
    ingest = make_ingest(store, clock)
    await ingest.open()
    clock.advance(30)
    await ingest.commit()
    assert store.status is not None and store.status.written_s - store.status.started_s == 30
