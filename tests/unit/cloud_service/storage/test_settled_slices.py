"""A year by device: days that have ended are read once, and what is told stays the truth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, insert, update

from cloud_service.dashboard.offload_address import Dimension, Filter
from cloud_service.dashboard.offload_question import OffloadQuestion, OffloadReading, Slice
from cloud_service.dashboard.offload_statistics import Share
from cloud_service.dashboard.ranges import Axis
from cloud_service.fleet.buckets import DAY_S, HOUR_S, MINUTE_S, WHOLE_FLEET, Bucket, CountKey
from cloud_service.fleet.tally import Tally, total
from cloud_service.storage import tables
from cloud_service.storage.offload_reader import OffloadReader
from cloud_service.storage.rows import count_row
from cloud_service.storage.schema import migrate
from cloud_service.storage.settled_slices import SettledSlices, settled_part
from tests.support.full_store import counted

TODAY_S = 20_833 * DAY_S
DAYS = [TODAY_S - back * DAY_S for back in range(5)]
AXIS = Axis(TODAY_S - 9 * DAY_S, TODAY_S + DAY_S, DAY_S)
QUESTION = OffloadQuestion(Dimension.DEVICE, AXIS)
DEVICES = ("d1", "d2")
SLICE = Slice("d1", Share(1, 2))


def told(day_s: int, owner: str) -> Tally:
    return counted(400 + (day_s - DAYS[-1]) // DAY_S * 100 + 7 * len(owner), 2)


def book(engine: Engine, days: list[int], owners: tuple[str, ...] = (*DEVICES, WHOLE_FLEET)) -> None:
    keys = [CountKey(Bucket(DAY_S, day_s), owner, "intents", "7", "", "everyone") for day_s in days for owner in owners]
    rows = [count_row(key, told(key.bucket.starts_s, key.device_id)) for key in keys]
    with engine.begin() as connection:
        connection.execute(insert(tables.counts), rows)


def write_status(engine: Engine, written_s: int) -> None:
    values = {"writer_id": "w", "started_s": 0, "written_s": written_s, "broker": "b", "is_broker_connected": True}
    with engine.begin() as connection:
        if connection.execute(update(tables.fleet_status).values(written_s=written_s)).rowcount == 0:
            connection.execute(insert(tables.fleet_status).values(id=1, broker_error="", **values))


@pytest.fixture
def store(writing: Engine) -> Engine:
    """Four days that have ended; the fleet service wrote last two hours after midnight."""
    migrate(writing)
    write_status(writing, TODAY_S + 2 * HOUR_S)
    book(writing, DAYS[1:])
    return writing


def read(reader: OffloadReader, question: OffloadQuestion = QUESTION) -> OffloadReading:
    reading = reader.read(question)
    assert reading is not None
    return reading


@contextmanager
def days_read(engine: Engine) -> Iterator[list[int]]:
    """The begins from which single devices' figures were read."""
    begins: list[int] = []

    def hear(_: Connection, __: Any, statement: str, parameters: Any, ___: Any, ____: bool) -> None:
        if "latency" in statement:
            values = parameters.values() if isinstance(parameters, dict) else parameters
            begins.append(min(each for each in values if isinstance(each, int) and each > 10 * DAY_S))

    event.listen(engine, "before_cursor_execute", hear)
    yield begins
    event.remove(engine, "before_cursor_execute", hear)


def assert_true(reading: OffloadReading, days: list[int]) -> None:
    assert {each.value for each in reading.slices} == set(DEVICES)
    for each in (*reading.slices, reading.whole):
        truth = {day_s: told(day_s, each.value).counters for day_s in days}
        everything = total(told(day_s, each.value) for day_s in days)
        assert each.tally is not None and each.tally.counters == everything.counters
        assert each.tally.audits == everything.audits
        assert each.shares == {day_s: Share(day.wanted, day.accepted) for day_s, day in truth.items()}
        assert each.share == Share(everything.counters.wanted, everything.counters.accepted)
        ended = sum(sum(histogram.counts.values()) for histogram in everything.latency.values())
        assert sum(each.tally.latency["all"].counts.values()) == ended


def test_what_is_kept_in_memory_and_what_is_new_add_up_to_the_truth(store: Engine, reading: Engine) -> None:
    reader = OffloadReader(reading)
    assert_true(read(reader), DAYS[1:])
    book(store, DAYS[:1])
    assert_true(read(reader), DAYS)
    assert_true(read(OffloadReader(reading)), DAYS)


def test_days_that_have_ended_are_read_once(store: Engine, reading: Engine) -> None:
    reader = OffloadReader(reading)
    with days_read(reading) as first:
        read(reader)
    with days_read(reading) as second:
        read(reader)
    assert first == [AXIS.since_s, TODAY_S] and second == [TODAY_S]


def test_a_day_that_the_fleet_service_may_still_book_into_is_read_anew(store: Engine, reading: Engine) -> None:
    reader = OffloadReader(reading)
    write_status(store, TODAY_S + HOUR_S - 1)
    with days_read(reading) as begins:
        read(reader)
        read(reader)
    assert begins == [AXIS.since_s, TODAY_S - DAY_S, TODAY_S - DAY_S]


def test_a_device_heard_for_the_first_time_is_added(store: Engine, reading: Engine) -> None:
    reader = OffloadReader(reading)
    read(reader)
    book(store, DAYS[:1], ("new",))
    found = {each.value: each for each in read(reader).slices}
    assert found["new"].shares == {TODAY_S: found["new"].share} and set(found) == {*DEVICES, "new"}


def test_each_filter_has_figures_of_its_own(store: Engine, reading: Engine) -> None:
    reader = OffloadReader(reading)
    assert_true(read(reader), DAYS[1:])
    assert read(reader, replace(QUESTION, filter=Filter(version="8"))).slices == ()
    assert_true(read(reader, replace(QUESTION, filter=Filter(version="7"))), DAYS[1:])


def test_only_whole_days_of_the_past_are_settled() -> None:
    assert settled_part(AXIS, TODAY_S + HOUR_S) == replace(AXIS, until_s=TODAY_S)
    assert settled_part(AXIS, TODAY_S + HOUR_S - 1) == replace(AXIS, until_s=TODAY_S - DAY_S)
    assert settled_part(AXIS, TODAY_S + 90 * DAY_S) == AXIS
    assert settled_part(AXIS, 0).span_s == 0
    assert settled_part(Axis(TODAY_S - HOUR_S, TODAY_S, MINUTE_S), TODAY_S + DAY_S).span_s == 0


def test_what_was_asked_for_least_lately_goes_first() -> None:
    kept = SettledSlices(most=2)
    kept.keep(AXIS, Filter(), [SLICE, replace(SLICE, value="d2")])
    assert kept.known(AXIS, Filter(), ["d1"]) == {"d1": SLICE}
    kept.keep(AXIS, Filter(), [replace(SLICE, value="d3")])
    assert set(kept.known(AXIS, Filter(), ["d1", "d2", "d3"])) == {"d1", "d3"}
    assert kept.known(AXIS, Filter(ring="canary"), ["d1"]) == {}
