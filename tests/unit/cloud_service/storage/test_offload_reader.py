"""The Offload page's figures, held against what was put into the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from sqlalchemy import Engine, insert

from cloud_service.dashboard.offload_address import Dimension, Filter
from cloud_service.dashboard.offload_question import OffloadQuestion, OffloadReading
from cloud_service.dashboard.offload_statistics import Share
from cloud_service.dashboard.ranges import Axis
from cloud_service.fleet.buckets import (
    ALL_TIME_S,
    DAY_S,
    DEVICE_WIDTHS_S,
    FLEET_WIDTHS_S,
    WHOLE_FLEET,
    Bucket,
    CountKey,
)
from cloud_service.fleet.buckets import Share as Owned
from cloud_service.fleet.tally import Tally, total
from cloud_service.storage import tables
from cloud_service.storage.offload_reader import OffloadReader
from cloud_service.storage.rows import count_row
from cloud_service.storage.schema import migrate
from shared.types import LabelCounts
from tests.support.full_store import counted

NOW_S = 1_800_000_000 - 1_800_000_000 % DAY_S + 7 * 3600
AXIS = Axis(NOW_S - NOW_S % 60 - 3540, NOW_S - NOW_S % 60 + 60, 60)
RINGS = {"d1": "canary", "d2": "everyone", "d3": "everyone", "old": "retired"}
VERSIONS = {"d1": "8", "d2": "7", "d3": "7"}
TALLIES = {name: counted(1000 * place, place, labels=("余额查询", "card")) for place, name in enumerate(VERSIONS, 1)}


def fill(engine: Engine, tallies: Mapping[str, Tally] = TALLIES, at_s: int = NOW_S) -> None:
    """As the fleet service books it: each device apart, and the fleet by ring, model version and variant."""
    migrate(engine)
    rows = []
    shares: dict[Owned, list[Tally]] = {}
    for device_id, tally in tallies.items():
        owned = Owned("intents", VERSIONS.get(device_id, "7"), "", RINGS.get(device_id, "everyone"))
        shares.setdefault(owned, []).append(tally)
        rows += [count_row(key, tally) for key in owned.keys(device_id, DEVICE_WIDTHS_S, at_s)]
    for owned, each in shares.items():
        rows += [count_row(key, total(each)) for key in owned.keys(WHOLE_FLEET, FLEET_WIDTHS_S, at_s)]
    if rows:
        with engine.begin() as connection:
            connection.execute(insert(tables.counts), rows)


def read(engine: Engine, by: Dimension, **changes: object) -> OffloadReading:
    reading = OffloadReader(engine).read(replace(OffloadQuestion(by, AXIS), **changes))  # type: ignore[arg-type]
    assert reading is not None
    return reading


def test_a_store_that_nobody_set_up_is_told_apart_from_an_empty_one(url: str, writing: Engine, reading: Engine) -> None:
    assert OffloadReader(reading).read(OffloadQuestion(Dimension.RING, AXIS)) is None
    migrate(writing)
    for by in Dimension:
        found = read(reading, by)
        assert found.slices == () and found.rest is None and found.whole.share == Share(0, 0)


@pytest.mark.parametrize("by", [Dimension.DEVICE, Dimension.RING, Dimension.VERSION, Dimension.VARIANT])
def test_the_rows_add_up_to_the_whole_and_the_whole_to_the_truth(
    by: Dimension, writing: Engine, reading: Engine
) -> None:
    fill(writing)
    found, truth = read(reading, by), total(TALLIES.values())
    sums = [each.tally for each in found.slices if each.tally]
    assert total(sums).counters == truth.counters and total(sums).audits == truth.audits
    assert found.whole.tally is not None and found.whole.tally.counters == truth.counters
    assert sum(found.whole.tally.latency["all"].counts.values()) == sum(
        sum(histogram.counts.values()) for histogram in truth.latency.values()
    )
    assert found.whole.share == Share(truth.counters.wanted, truth.counters.accepted)


def test_each_value_has_its_own_figures(writing: Engine, reading: Engine) -> None:
    fill(writing)
    by_ring = {each.value: each for each in read(reading, Dimension.RING).slices}
    assert set(by_ring) == {"canary", "everyone"}
    assert by_ring["canary"].tally is not None and by_ring["canary"].tally.counters == TALLIES["d1"].counters
    assert by_ring["canary"].shares == {NOW_S - NOW_S % 60: by_ring["canary"].share}
    assert {each.value for each in read(reading, Dimension.VERSION).slices} == {"intents/7", "intents/8"}


def test_a_device_that_changed_its_ring_is_one_with_the_sum_of_both(writing: Engine, reading: Engine) -> None:
    fill(writing)
    start_s = NOW_S - NOW_S % 60
    keys = [CountKey(Bucket(60, at_s), "d1", "intents", "8", "", "early") for at_s in (start_s, start_s - 60)]
    with writing.begin() as connection:
        connection.execute(insert(tables.counts), [count_row(key, counted(700)) for key in keys])
    (found,) = [each for each in read(reading, Dimension.DEVICE).slices if each.value == "d1"]
    truth, before = total([TALLIES["d1"], counted(700)]), counted(700).counters
    assert found.tally is not None and found.tally.counters == total([truth, counted(700)]).counters
    assert found.shares == {
        start_s: Share(truth.counters.wanted, truth.counters.accepted),
        start_s - 60: Share(before.wanted, before.accepted),
    }
    merged = sum(sum(each.counts.values()) for tally in (truth, counted(700)) for each in tally.latency.values())
    assert sum(found.tally.latency["all"].counts.values()) == merged


def test_labels_that_come_and_go_are_each_counted_in_their_own_time(writing: Engine, reading: Engine) -> None:
    start_s = NOW_S - NOW_S % 60
    told = {0: ("card", "余额查询"), 60: ("limit",), 120: ("余额查询", "limit", "fee"), 180: ("fee", "card")}
    fill(writing, {})
    keys = [CountKey(Bucket(60, start_s - back_s), "", "intents", "7", "", "everyone") for back_s in told]
    tallies = [counted(700 + back_s, labels=labels) for back_s, labels in told.items()]
    with writing.begin() as connection:
        rows = [count_row(key, tally) for key, tally in zip(keys, tallies, strict=True)]
        connection.execute(insert(tables.counts), rows)
    found, truth = read(reading, Dimension.LABEL), total(tallies)
    assert {each.value: each.label for each in found.slices} == dict(truth.labels)
    for each in found.slices:
        assert sorted(each.shares) == sorted(start_s - back_s for back_s in told if each.value in told[back_s])


def test_labels_and_reasons_are_counted(writing: Engine, reading: Engine) -> None:
    fill(writing)
    labels, truth = read(reading, Dimension.LABEL), total(TALLIES.values())
    assert {each.value: each.label for each in labels.slices} == dict(truth.labels)
    assert sum(labels.whole.shares[start].whole for start in labels.whole.shares) == labels.whole.share.whole
    reasons = read(reading, Dimension.REASON)
    assert {each.value: each.share.part for each in reasons.slices} == dict(truth.reasons)
    assert {each.share.whole for each in reasons.slices} == {truth.counters.received}


def test_filters_leave_the_others_out(writing: Engine, reading: Engine) -> None:
    fill(writing)
    for chosen in (Filter(ring="canary"), Filter(version="8"), Filter(ring="canary", model="intents", variant="")):
        found = read(reading, Dimension.DEVICE, filter=chosen)
        assert [each.value for each in found.slices] == ["d1"] and found.rest is None
    assert read(reading, Dimension.LABEL, filter=Filter(model="other")).slices == ()


def test_other_times_are_not_counted(writing: Engine, reading: Engine) -> None:
    fill(writing)
    fill(writing, {"old": counted(700)}, NOW_S - 2 * 3600)
    found = read(reading, Dimension.RING)
    assert found.whole.tally is not None and found.whole.tally.counters == total(TALLIES.values()).counters


def test_of_many_devices_the_first_are_shown_and_the_rest_together(writing: Engine, reading: Engine) -> None:
    tallies = {f"m{number:02d}": counted(400 + 100 * number) for number in range(40)}
    fill(writing, tallies)
    found = read(reading, Dimension.DEVICE, top=5, named=("m03",))
    assert [each.value for each in found.slices] == ["m39", "m38", "m37", "m36", "m35", "m03"]
    assert found.rest_values == 34 and found.rest is not None and found.rest.tally is not None
    shown = {each.value for each in found.slices}
    assert found.rest.tally.counters == total(each for name, each in tallies.items() if name not in shown).counters


def test_of_many_labels_the_first_are_shown_and_the_rest_together(writing: Engine, reading: Engine) -> None:
    labels = {f"标签 {number}": LabelCounts(100 + number, number, 3, 1) for number in range(50)}
    fill(writing, {"d1": replace(counted(10), labels=labels)})
    found = read(reading, Dimension.LABEL, top=3)
    assert [each.value for each in found.slices] == ["标签 49", "标签 48", "标签 47"]
    assert found.rest is not None and found.rest_values == 47
    assert found.rest.share == Share(sum(range(47)), sum(100 + number for number in range(47)))


def test_what_can_be_filtered_by_is_all_that_was_ever_counted(writing: Engine, reading: Engine) -> None:
    fill(writing, TALLIES, NOW_S - 90 * DAY_S)
    choices = read(reading, Dimension.RING).choices
    assert choices.rings == ("canary", "everyone") and choices.versions == ("7", "8") and choices.variants == ("",)


def test_the_bucket_of_all_time_is_no_part_of_any_stretch(writing: Engine, reading: Engine) -> None:
    fill(writing)
    assert all(width_s != ALL_TIME_S for width_s in DEVICE_WIDTHS_S)
    assert read(reading, Dimension.RING, axis=Axis(0, 60, 60)).slices == ()
