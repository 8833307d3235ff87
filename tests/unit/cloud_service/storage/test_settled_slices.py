"""A year by device or by label: days that have ended are read once, and what is told stays the truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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


def key_of(day_s: int, owner: str, version: str = "7") -> CountKey:
    return CountKey(Bucket(DAY_S, day_s), owner, "intents", version, "", "everyone")


def book(engine: Engine, days: list[int], owners: tuple[str, ...] = (*DEVICES, WHOLE_FLEET)) -> None:
    keys = [key_of(day_s, owner) for day_s in days for owner in owners]
    add(engine, {key: told(key.bucket.starts_s, key.device_id) for key in keys})


def add(engine: Engine, tallies: Mapping[CountKey, Tally]) -> None:
    with engine.begin() as connection:
        connection.execute(insert(tables.counts), [count_row(key, tally) for key, tally in tallies.items()])


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
def days_read(engine: Engine, words: str = "latency") -> Iterator[list[int]]:
    """The begins from which counts were read, in questions with these words; by default the devices' figures."""
    begins: list[int] = []

    def hear(_: Connection, __: Any, statement: str, parameters: Any, ___: Any, ____: bool) -> None:
        if words in statement and ("latency" in statement) == (words == "latency"):
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


def test_devices_are_chosen_by_what_is_in_memory_and_what_is_new(store: Engine, reading: Engine) -> None:
    reader = OffloadReader(reading)
    assert [each.value for each in read(reader, replace(QUESTION, top=1)).slices] == ["d1"]
    more = told(DAYS[1], "d2")
    add(store, {key_of(DAYS[0], "d2"): more, key_of(DAYS[0], "new"): counted(100)})
    found = read(reader, replace(QUESTION, top=1))
    assert [each.value for each in found.slices] == ["d2"] and found.rest_values == 2
    add(store, {key_of(DAYS[0], "busy"): counted(1_000_000)})
    assert [each.value for each in read(reader, replace(QUESTION, top=2)).slices] == ["busy", "d2"]
    assert read(reader, replace(QUESTION, top=2)) == read(OffloadReader(reading), replace(QUESTION, top=2))


def test_days_that_have_ended_are_ranked_once_for_each_filter(store: Engine, reading: Engine) -> None:
    reader, ranked = OffloadReader(reading), "counts.device_id != "
    with days_read(reading, ranked) as begins:
        for _ in range(2):
            read(reader)
            read(reader, replace(QUESTION, filter=Filter(version="7")))
    first, today = TODAY_S - 6 * DAY_S, TODAY_S
    assert begins == [first, today, first, today, today, today]


def test_a_year_by_label_is_what_is_in_memory_and_what_is_new(store: Engine, reading: Engine) -> None:
    labels = {0: ("fee", "card"), 1: ("card",), 2: ("loan", "card"), 3: ("loan", "余额查询")}
    tallies = {back: counted(7000 + 100 * back, labels=names) for back, names in labels.items()}
    add(store, {key_of(DAYS[back], WHOLE_FLEET, "8"): tallies[back] for back in (1, 2, 3)})
    asked = OffloadQuestion(Dimension.LABEL, AXIS, Filter(version="8"))
    reader = OffloadReader(reading)
    with days_read(reading, "counts.labels") as begins:
        assert_labels(read(reader, asked), {DAYS[back]: tallies[back] for back in (1, 2, 3)})
        add(store, {key_of(DAYS[0], WHOLE_FLEET, "8"): tallies[0]})
        assert_labels(read(reader, asked), {DAYS[back]: tally for back, tally in tallies.items()})
    assert begins == [AXIS.since_s, TODAY_S, TODAY_S]
    assert read(reader, asked) == read(OffloadReader(reading), asked)
    assert read(reader, replace(asked, filter=Filter())).slices == read(reader, asked).slices


def assert_labels(reading: OffloadReading, tallies: Mapping[int, Tally]) -> None:
    truth = total(tallies.values()).labels
    assert {each.value: each.label for each in reading.slices} == truth
    for each in reading.slices:
        told_of = {day_s: tally.labels[each.value] for day_s, tally in tallies.items() if each.value in tally.labels}
        assert each.shares == {day_s: Share(counts.wanted, counts.accepted) for day_s, counts in told_of.items()}
    assert reading.whole.share.whole == sum(counts.accepted for counts in truth.values())
    assert set(reading.whole.shares) == set(tallies)


def test_only_whole_days_and_hours_of_the_past_are_settled() -> None:
    assert settled_part(AXIS, TODAY_S + HOUR_S) == replace(AXIS, until_s=TODAY_S)
    assert settled_part(AXIS, TODAY_S + HOUR_S - 1) == replace(AXIS, until_s=TODAY_S - DAY_S)
    assert settled_part(AXIS, TODAY_S + 90 * DAY_S) == AXIS
    assert settled_part(AXIS, 0).span_s == 0
    hours = Axis(TODAY_S - DAY_S, TODAY_S, HOUR_S)
    assert settled_part(hours, TODAY_S - MINUTE_S) == replace(hours, until_s=TODAY_S - 2 * HOUR_S)
    assert settled_part(Axis(TODAY_S - HOUR_S, TODAY_S, MINUTE_S), TODAY_S + DAY_S).span_s == 0


def test_what_was_asked_for_least_lately_goes_first() -> None:
    kept = SettledSlices(most=2)
    kept.keep(AXIS, Filter(), [SLICE, replace(SLICE, value="d2")])
    assert kept.known(AXIS, Filter(), ["d1"]) == {"d1": SLICE}
    kept.keep(AXIS, Filter(), [replace(SLICE, value="d3")])
    assert set(kept.known(AXIS, Filter(), ["d1", "d2", "d3"])) == {"d1", "d3"}
    assert kept.known(AXIS, Filter(ring="canary"), ["d1"]) == {}
