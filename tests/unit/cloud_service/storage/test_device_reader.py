"""The list of devices, and one device's page, read from a store of each kind."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Engine, insert

from cloud_service.dashboard.devices_address import PAGE_ROWS, SORTS, DevicesAddress
from cloud_service.dashboard.devices_question import DevicesReading
from cloud_service.dashboard.ranges import Axis
from cloud_service.fleet.book import ModelState
from cloud_service.fleet.buckets import MINUTE_S, Bucket, CountKey
from cloud_service.fleet.deltas import Series, Snapshot
from cloud_service.fleet.presence import DeviceState
from cloud_service.fleet.reading import DeviceCounts
from cloud_service.storage import tables
from cloud_service.storage.device_reader import DeviceReader
from cloud_service.storage.rows import count_row, device_row, state_row
from cloud_service.storage.schema import migrate
from cloud_service.storage.watch_rows import alarm_row, policy_row
from cloud_service.watch.records import AlarmKind, GateAlarm, GateKey, IssuedPolicy
from shared.types import GatePolicy, GateReport
from tests.support.full_store import counted

NOW_S = 1_800_000_000
SEEN_SINCE_S = NOW_S - 60
DEVICES = 120


def device(number: int) -> DeviceState:
    return DeviceState(
        f"press-{number:03d}",
        f"b{number}",
        number % 10 != 0,
        "0.4.0",
        NOW_S - 9999,
        NOW_S - (3600 if number % 10 == 1 else number % 7),
        "canary" if number % 4 == 0 else "everyone",
    )


def state(number: int, *, boot_id: str = "", version: str = "7", heard_s: int = NOW_S) -> ModelState:
    gate = GateReport("margin", 0.8 + number / 1000, "d" * 64, {"kept-disagreement": 0.05})
    if number % 20 == 3:
        gate = replace(gate, refused_policy_id="p2", refusal="not certified")
    return ModelState(
        Series(f"press-{number:03d}", "intents", boot_id or f"b{number}", version, ""),
        Snapshot(1, counted(1000 + number * 10, number, labels=("card",))),
        "a" * 64,
        gate,
        "closed",
        heard_s,
        "canary" if number % 4 == 0 else "everyone",
    )


@pytest.fixture
def reader(writing: Engine, reading: Engine) -> DeviceReader:
    """120 devices, one of them without a model, one of them with an earlier boot and an earlier version."""
    migrate(writing)
    states = [state(number) for number in range(DEVICES - 1)]
    states += [state(5, boot_id="earlier", heard_s=NOW_S - 500), state(5, version="6", heard_s=NOW_S - 50)]
    key = CountKey(Bucket(MINUTE_S, NOW_S), "press-005", "intents", "7", "", "everyone")
    gate = GateKey("intents", "7", "d" * 64, "everyone")
    with writing.begin() as connection:
        connection.execute(insert(tables.devices), [device_row(device(number)) for number in range(DEVICES)])
        connection.execute(insert(tables.model_states), [state_row(each) for each in states])
        connection.execute(insert(tables.counts), [count_row(key, counted(500))])
        policy = GatePolicy("p1", 1, "intents", "d" * 64, {"kept-disagreement": 0.02}, issued_by="ada", reason="drift")
        for ring in ("everyone", "canary"):
            row = policy_row(IssuedPolicy(replace(policy, policy_id=f"p1-{ring}"), ring, NOW_S - 40))
            connection.execute(insert(tables.gate_policies), [row])
        alarm = GateAlarm("a1", gate, AlarmKind.DRIFT, NOW_S - 30, "Scores have drifted.")
        connection.execute(insert(tables.gate_alarms), [alarm_row(alarm)])
    return DeviceReader(reading)


def page(reader: DeviceReader, address: DevicesAddress) -> DevicesReading:
    found = reader.page(address, SEEN_SINCE_S)
    assert found is not None
    return found


def names(found: DevicesReading) -> list[str]:
    return [row.device.device_id for row in found.rows]


def test_pages_follow_one_another_and_hold_every_device_once(reader: DeviceReader) -> None:
    pages = [page(reader, DevicesAddress(page=number)) for number in (1, 2, 3, 4)]
    assert [len(each.rows) for each in pages] == [PAGE_ROWS, PAGE_ROWS, DEVICES - 2 * PAGE_ROWS, 0]
    assert [name for each in pages for name in names(each)] == [f"press-{number:03d}" for number in range(DEVICES)]
    assert {each.matches for each in pages} == {DEVICES}
    assert pages[0].fleet == DeviceCounts(online=96, silent=12, offline=12)


def test_a_device_without_a_model_is_listed(reader: DeviceReader) -> None:
    (row,) = page(reader, DevicesAddress(search="119")).rows
    assert row.running is None


def test_only_the_newest_version_of_the_present_boot_is_listed(reader: DeviceReader) -> None:
    (row,) = page(reader, DevicesAddress(search="press-005")).rows
    assert row.running is not None and row.running.model_version == "7" and row.running.boot_id == "b5"


@pytest.mark.parametrize("key", SORTS)
def test_every_column_sorts_both_ways(reader: DeviceReader, key: str) -> None:
    up = [name for number in (1, 2, 3) for name in names(page(reader, DevicesAddress(sort=key, page=number)))]
    down = [name for number in (1, 2, 3) for name in names(page(reader, DevicesAddress(sort=f"-{key}", page=number)))]
    assert len(set(up)) == len(set(down)) == DEVICES
    if key in ("accepted", "gate"):
        assert up[0] == "press-000" and down[0] == "press-118" and up[-1] == down[-1] == "press-119"


def test_the_slowest_and_the_most_offloading_come_first(reader: DeviceReader) -> None:
    slow = [row.running.p99_ms for row in page(reader, DevicesAddress(sort="-p99")).rows if row.running]
    assert slow == sorted(slow, key=lambda value: -(value or 0.0)) and slow[0]
    shares = [
        row.running.wanted / row.running.accepted
        for row in page(reader, DevicesAddress(sort="-offload")).rows
        if row.running
    ]
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize(
    ("address", "matches"),
    [
        (DevicesAddress(search="PRESS-01"), 10),
        (DevicesAddress(search="07"), 12),
        (DevicesAddress(search="%"), 0),
        (DevicesAddress(search="_"), 0),
        (DevicesAddress(presence="offline"), 12),
        (DevicesAddress(presence="silent"), 12),
        (DevicesAddress(ring="canary"), 30),
        (DevicesAddress(ring="canary", presence="online"), 24),
        (DevicesAddress(model="intents"), 119),
        (DevicesAddress(version="6"), 0),
        (DevicesAddress(policy="refused"), 6),
        (DevicesAddress(policy="none"), 119),
        (DevicesAddress(policy="obeyed"), 0),
    ],
)
def test_search_and_filters_find_what_they_say(reader: DeviceReader, address: DevicesAddress, matches: int) -> None:
    assert page(reader, address).matches == matches


def test_one_devices_page_has_its_counts_its_boots_and_what_was_decided_for_its_ring(reader: DeviceReader) -> None:
    history = reader.device("press-005", Axis(NOW_S - 600, NOW_S + 60, 60))
    assert history is not None and history.tallies[NOW_S].counters == counted(500).counters
    assert [(each.boot_id, each.model_version) for each in history.models] == [
        ("b5", "7"),
        ("b5", "6"),
        ("earlier", "7"),
    ]
    assert [(each.policy_id, each.reason, each.published_s) for each in history.policies] == [
        ("p1-everyone", "drift", None)
    ]
    assert [each.text for each in history.alarms] == ["Scores have drifted."]


def test_a_device_that_never_reported_is_none(reader: DeviceReader) -> None:
    assert reader.device("nobody", Axis(0, 60, 60)) is None


def test_an_empty_store_has_an_empty_list(writing: Engine, reading: Engine) -> None:
    reader = DeviceReader(reading)
    assert reader.page(DevicesAddress(), SEEN_SINCE_S) is None
    migrate(writing)
    assert page(reader, DevicesAddress()).matches == 0
