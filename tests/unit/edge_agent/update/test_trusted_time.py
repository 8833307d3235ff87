from __future__ import annotations

import time

from edge_agent.update.trusted_time import BUILT_UNIX_S, TrustedTime
from tests.support.fake_clock import FakeClock

NOON = 1_800_000_000.0


def test_a_clock_that_is_right_is_believed() -> None:
    trusted = TrustedTime(FakeClock(unix_s=NOON), last_trusted_unix_s=NOON - 5, built_unix_s=NOON - 9)
    assert trusted.now_unix_s() == NOON


def test_in_1970_the_build_time_counts_or_what_was_trusted_last() -> None:
    assert TrustedTime(FakeClock(unix_s=0), last_trusted_unix_s=0, built_unix_s=NOON).now_unix_s() == NOON
    assert TrustedTime(FakeClock(unix_s=0), last_trusted_unix_s=NOON, built_unix_s=5).now_unix_s() == NOON


def test_time_goes_on_though_the_clock_is_wrong() -> None:
    clock = FakeClock(unix_s=0)
    trusted = TrustedTime(clock, last_trusted_unix_s=NOON)
    clock.advance(3600)
    assert trusted.now_unix_s() == NOON + 3600
    trusted.confirm(trusted.now_unix_s())
    clock.advance(60)
    assert trusted.now_unix_s() == NOON + 3660


def test_a_clock_that_is_set_back_takes_no_confirmed_time_back() -> None:
    clock = FakeClock(unix_s=NOON)
    trusted = TrustedTime(clock, last_trusted_unix_s=0, built_unix_s=0)
    trusted.confirm(NOON)
    clock.jump(-86_400)
    assert trusted.now_unix_s() == NOON


def test_an_unconfirmed_clock_far_ahead_leaves_no_trace() -> None:
    clock = FakeClock(unix_s=NOON)
    trusted = TrustedTime(clock, last_trusted_unix_s=NOON, built_unix_s=0)
    clock.jump(2.0**40)
    assert trusted.now_unix_s() > NOON
    clock.jump(-(2.0**40))
    assert trusted.now_unix_s() == NOON


def test_the_build_time_has_passed() -> None:
    assert time.time() >= BUILT_UNIX_S
