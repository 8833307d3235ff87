from __future__ import annotations

from dataclasses import replace

import pytest

from cloud_service.dashboard.notices import notices_of
from cloud_service.dashboard.ranges import RANGES, question
from cloud_service.dashboard.view import Overview, overview
from cloud_service.fleet.reading import FleetReading
from cloud_service.fleet.status import FleetStatus
from tests.support.fleet_readings import NOW_S, counted, device_reading, fleet_reading


def view_of(reading: FleetReading | None, key: str = "1h") -> Overview:
    asked = question(RANGES[key], NOW_S, offline_after_s=30, device_limit=10)
    return overview(RANGES[key], asked, reading, NOW_S, stale_after_s=5)


def counts(view: Overview) -> dict[str, int]:
    return {row.key: row.shown for row in (*view.requests, *view.calls)}


def test_the_offload_ratio_comes_with_its_denominator() -> None:
    view = view_of(fleet_reading(device_reading(counted())))
    assert (view.offload_now.wanted, view.offload_now.accepted) == (16, 98)
    assert view.offload_now.ratio == pytest.approx(16 / 98)


def test_without_an_accepted_request_there_is_no_ratio() -> None:
    view = view_of(fleet_reading())
    assert view.offload_now.ratio is None and view.offload_all_time.ratio is None


def test_the_figures_on_the_page_add_up() -> None:
    shown = counts(view_of(fleet_reading(device_reading(counted("d1")), device_reading(counted("d2")))))
    assert shown["received"] == shown["accepted"] + shown["rejected"] == 200
    ended = shown["edge"] + shown["cloud"] + shown["degraded"] + shown["failed"]
    assert shown["accepted"] == ended + shown["in_flight"]
    assert shown["attempted"] == sum(shown[each] for each in ("served", "call_failed", "timed_out", "calls_in_flight"))


def test_shares_are_of_the_accepted_and_rejections_of_the_received() -> None:
    rows = {row.key: row for row in view_of(fleet_reading(device_reading(counted()))).requests}
    assert rows["edge"].share == pytest.approx(80 / 98)
    assert rows["rejected"].share == pytest.approx(2 / 100)
    assert rows["in_flight"].share is None and rows["received"].share is None


def test_what_was_in_flight_on_a_device_that_has_gone_is_said_to_be_unknown() -> None:
    reading = fleet_reading(device_reading(counted("d1")), device_reading(counted("d2"), is_online=False), in_flight=1)
    (row,) = (row for row in view_of(reading).requests if row.key == "in_flight")
    assert (row.all_time, row.unknown) == (2, 1)


def test_latency_is_told_for_each_outcome_and_for_all() -> None:
    rows = {row.key: row for row in view_of(fleet_reading(device_reading(counted()))).latency}
    assert list(rows) == ["edge", "cloud", "degraded", "failed", "all"]
    assert [row.requests for row in rows.values()] == [80, 12, 4, 1, 97]
    assert rows["edge"].p99_ms == pytest.approx(4.0, rel=0.19)
    assert rows["degraded"].p50_ms == pytest.approx(80.0, rel=0.19)
    assert view_of(fleet_reading()).latency[0].p50_ms is None


def test_reasons_come_most_frequent_first() -> None:
    view = view_of(fleet_reading(device_reading(counted())))
    assert [(row.key, row.requests) for row in view.reasons] == [
        ("confident", 80),
        ("uncertain", 12),
        ("cloud_unavailable", 4),
    ]


@pytest.mark.parametrize(
    ("is_online", "last_seen_s", "presence"),
    [
        (True, NOW_S - 1, "online"),
        (True, NOW_S - 31, "silent"),
        (True, None, "silent"),
        (False, NOW_S, "offline"),
    ],
)
def test_a_devices_presence_is_its_own_word_until_it_is_silent(
    is_online: bool, last_seen_s: int | None, presence: str
) -> None:
    reading = fleet_reading(device_reading(counted(), is_online=is_online, last_seen_s=last_seen_s))
    (row,) = view_of(reading).devices
    assert row.presence == presence


def test_a_device_row_tells_its_model_its_gate_and_its_figures() -> None:
    (row,) = view_of(fleet_reading(device_reading(counted()))).devices
    assert (row.model, row.model_version, row.gate_threshold, row.cloud_link_words) == (
        "intents",
        "1",
        0.82,
        "connected",
    )
    assert (row.wanted, row.accepted) == (16, 98)
    assert row.p99_ms == pytest.approx(80.0, rel=0.19)


def test_a_device_that_runs_no_model_yet_is_listed_too() -> None:
    bare = replace(device_reading(counted()), models=(), tallies={})
    (row,) = view_of(fleet_reading(bare)).devices
    assert (row.device_id, row.model, row.accepted, row.offload_ratio) == ("d1", "", 0, None)


@pytest.mark.parametrize("key", list(RANGES))
def test_a_stretch_of_time_ends_with_the_running_bucket_and_has_no_more_than_its_span(key: str) -> None:
    shown = RANGES[key]
    asked = question(shown, NOW_S + 7, offline_after_s=30, device_limit=10)
    for since_s, width_s in (
        (asked.chart_since_s, shown.chart_width_s),
        (asked.figures_since_s, shown.figures_width_s),
    ):
        assert since_s % width_s == 0
        assert since_s + shown.span_s - width_s <= NOW_S + 7 < since_s + shown.span_s


STATUS = FleetStatus(NOW_S - 60, NOW_S, "localhost:1883", True)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (STATUS, []),
        (replace(STATUS, written_s=NOW_S - 5), []),
        (replace(STATUS, written_s=NOW_S + 500), []),
        (replace(STATUS, written_s=NOW_S - 130), ["stale"]),
        (replace(STATUS, is_broker_connected=False, broker_error="refused"), ["no_broker"]),
        (replace(STATUS, is_broker_connected=False, written_s=NOW_S - 130), ["stale"]),
    ],
)
def test_the_operator_is_warned_before_believing_old_figures(status: FleetStatus, expected: list[str]) -> None:
    notices = notices_of(fleet_reading(status=status), NOW_S)
    assert [notice.key for notice in notices] == expected


def test_a_notice_says_what_is_wrong_and_what_to_do() -> None:
    (no_broker,) = notices_of(
        fleet_reading(status=replace(STATUS, is_broker_connected=False, broker_error="refused")), NOW_S
    )
    assert "localhost:1883" in no_broker.title and "refused" in no_broker.text
    (stale,) = notices_of(fleet_reading(status=replace(STATUS, written_s=NOW_S - 130)), NOW_S)
    assert "2 min" in stale.title and "cloud-service serve fleet" in stale.text and stale.since_s == NOW_S - 130
    (not_ready,) = notices_of(None, NOW_S)
    assert "cloud-service serve" in not_ready.text
