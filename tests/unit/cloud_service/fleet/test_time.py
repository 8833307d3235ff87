from __future__ import annotations

from cloud_service.fleet.buckets import (
    ALL_TIME_S,
    DAY_S,
    DEVICE_WIDTHS_S,
    FLEET_WIDTHS_S,
    WHOLE_FLEET,
    Bucket,
    Retention,
    Share,
    bucket_at,
    buckets_at,
)
from cloud_service.fleet.pruning import PRUNE_EVERY_S, STEADY_FOR_S, PruneRule


def test_a_moment_lies_in_one_bucket_of_each_width() -> None:
    assert bucket_at(60, 125) == Bucket(60, 120)
    assert bucket_at(ALL_TIME_S, 125) == Bucket(0, 0)
    assert {bucket.width_s for bucket in buckets_at(125)} == set(FLEET_WIDTHS_S)


def test_an_increase_is_booked_for_the_fleet_and_for_the_device_in_open_buckets() -> None:
    share = Share("m", "1", "")
    keys = [*share.keys(WHOLE_FLEET, FLEET_WIDTHS_S, 125), *share.keys("d1", DEVICE_WIDTHS_S, 125)]
    assert len(keys) == len(set(keys)) == len(FLEET_WIDTHS_S) + len(DEVICE_WIDTHS_S)
    assert {key.bucket for key in keys} == buckets_at(125)


def test_the_sum_of_all_time_is_never_pruned() -> None:
    kept = Retention().kept_since(1_800_000_000)
    assert ALL_TIME_S not in kept and set(kept) == set(FLEET_WIDTHS_S) - {ALL_TIME_S}
    assert kept[DAY_S] < kept[3600] < kept[60] == kept[600] < kept[10]
    assert (1_800_000_000 - kept[DAY_S]) // DAY_S == 730


def test_pruning_begins_when_the_clocks_have_agreed_for_a_while_and_then_goes_on_at_intervals() -> None:
    rule = PruneRule()
    assert not rule.is_due(1e9, 50.0)
    assert rule.is_due(1e9 + STEADY_FOR_S, 50.0 + STEADY_FOR_S)
    assert not rule.is_due(1e9 + STEADY_FOR_S + 1, 51.0 + STEADY_FOR_S)
    assert rule.is_due(1e9 + STEADY_FOR_S + PRUNE_EVERY_S, 50.0 + STEADY_FOR_S + PRUNE_EVERY_S)


def test_a_clock_that_jumps_ahead_deletes_nothing_until_it_has_been_steady_again() -> None:
    rule = PruneRule()
    rule.is_due(1e9, 0.0)
    year_s = 365 * 86_400.0
    assert not rule.is_due(1e9 + year_s + STEADY_FOR_S, STEADY_FOR_S)
    assert not rule.is_due(1e9 + STEADY_FOR_S + 60, STEADY_FOR_S + 60)
    assert rule.is_due(1e9 + 2 * STEADY_FOR_S + 60, 2 * STEADY_FOR_S + 60)
