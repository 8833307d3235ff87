from __future__ import annotations

import pytest

from cloud_service.fleet.pacing import Pace


def test_before_anything_was_measured_a_commit_books_a_few() -> None:
    assert Pace(1.0).allowance == 100


def test_a_commit_books_what_fits_into_its_share_of_the_interval() -> None:
    pace = Pace(1.0)
    pace.note(100, 0.05)
    assert pace.allowance == 300
    pace = Pace(2.0)
    pace.note(100, 0.05)
    assert pace.allowance == 600


def test_however_dear_a_message_is_some_are_booked() -> None:
    pace = Pace(1.0)
    pace.note(100, 50.0)
    assert pace.allowance == 100


def test_commits_that_book_little_do_not_make_a_message_seem_dear_for_long() -> None:
    pace = Pace(1.0)
    for _ in range(50):
        pace.note(1, 0.01)
    for _ in range(20):
        pace.note(pace.allowance, 0.01 + pace.allowance * 0.0004)
    assert pace.allowance == pytest.approx((0.15 - 0.01) / 0.0004, rel=0.05)


def test_one_slow_commit_is_soon_forgotten() -> None:
    pace = Pace(1.0)
    for _ in range(20):
        pace.note(400, 0.2)
    pace.note(400, 2.0)
    slowed = pace.allowance
    for _ in range(20):
        pace.note(pace.allowance, pace.allowance * 0.0005)
    assert slowed < 225 and pace.allowance == pytest.approx(300, rel=0.05)
