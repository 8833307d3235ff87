from __future__ import annotations

import pytest

from cloud_service.dashboard import wording


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(None, "–"), (0.0, "0.0%"), (0.0004, "<0.1%"), (0.11, "11.0%"), (0.9996, ">99.9%"), (1.0, "100.0%")],
)
def test_a_ratio_never_rounds_to_none_or_all(ratio: float | None, text: str) -> None:
    assert wording.percent(ratio) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.84, "0.84 ms"), (9.996, "10.0 ms"), (12.34, "12.3 ms"), (99.97, "100 ms"), (2100, "2.1 s")],
)
def test_milliseconds_have_about_three_digits(value: float | None, text: str) -> None:
    assert wording.milliseconds(value) == text


def test_counts_are_grouped_and_changes_signed() -> None:
    assert wording.count(1204) == "1,204"
    assert [wording.signed_count(each) for each in (3, 0, -2)] == ["+3", "0", "−2"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(-3, "0 s"), (45, "45 s"), (130, "2 min"), (7200, "2 h"), (200_000, "2 days")]
)
def test_durations_are_short(seconds: int, text: str) -> None:
    assert wording.duration(seconds) == text


def test_a_moment_of_another_day_has_its_date() -> None:
    assert wording.moment(1_800_000_000, 1_800_000_100) == "08:00:00"
    assert wording.moment(1_800_000_000 - 86_400, 1_800_000_000) == "2027-01-14 08:00:00"
    assert wording.iso(1_800_000_000) == "2027-01-15T08:00:00Z"
    assert wording.hour_and_minute(1_800_000_000) == "08:00"


@pytest.mark.parametrize(("width_s", "text"), [(10, "10 seconds"), (60, "minute"), (600, "10 minutes")])
def test_a_bucket_is_named_by_its_width(width_s: int, text: str) -> None:
    assert wording.bucket_words(width_s) == text
