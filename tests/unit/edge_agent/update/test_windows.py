"""Timeouts, windows and patience."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.update.windows import Pacer, Patience, TransferLimits

LIMITS = TransferLimits(block_bytes=64 * 1024, window_bytes=1 << 20, least_timeout_s=1.0, first_timeout_s=3.0)


def test_a_window_opens_while_blocks_come_quickly_and_no_further_than_it_may() -> None:
    pacer = Pacer(LIMITS)
    first, first_block = pacer.window_bytes, pacer.block_bytes
    for _ in range(200):
        pacer.delivered(0.05, pacer.block_bytes, 0.0)
    assert first < pacer.window_bytes == LIMITS.window_bytes
    assert first_block < pacer.block_bytes == LIMITS.block_bytes


def test_a_slow_link_is_asked_for_little_in_small_blocks() -> None:
    pacer = Pacer(LIMITS)
    for second in range(20):
        pacer.delivered(10.0, pacer.block_bytes, second * 20.0)
    assert pacer.window_bytes == pacer.block_bytes == 16 * 1024


def test_losses_of_one_round_trip_narrow_the_window_once() -> None:
    pacer = Pacer(LIMITS)
    before = pacer.window_bytes
    for _ in range(5):
        pacer.lost(100.0)
    assert pacer.window_bytes == before // 2


def test_timeouts_follow_what_is_usual_and_double_until_an_answer_comes() -> None:
    pacer = Pacer(LIMITS)
    assert pacer.timeout_s(lambda: 0.0) == LIMITS.first_timeout_s
    for _ in range(50):
        pacer.delivered(4.0, 1, 0.0)
    usual_s = pacer.timeout_s(lambda: 0.0)
    assert 4.0 <= usual_s < 5.0
    pacer.timed_out(1.0)
    pacer.timed_out(2.0)
    assert pacer.timeout_s(lambda: 0.0) == pytest.approx(4 * usual_s)
    for _ in range(20):
        pacer.timed_out(3.0)
    assert pacer.timeout_s(lambda: 0.999) <= LIMITS.longest_timeout_s * 1.25
    pacer.delivered(4.0, 1, 9.0)
    assert pacer.timeout_s(lambda: 0.0) < 5.0


def test_patience_ends_when_nothing_comes_and_when_too_little_does() -> None:
    limits = replace(LIMITS, stalled_after_s=10.0, grace_s=20.0, least_bytes_per_s=100.0)
    stalled, slow, steady = Patience(limits), Patience(limits), Patience(limits)
    stalled.waited(9.0, 0)
    assert not stalled.problem()
    stalled.waited(1.0, 0)
    assert "nothing came for 10 s" in stalled.problem()
    for _ in range(30):
        slow.waited(1.0, 1)
        steady.waited(1.0, 100)
    assert "less than 100" in slow.problem()
    assert not steady.problem()


def test_blocks_that_no_message_or_window_holds_are_refused() -> None:
    for wrong in (0, 1 << 20):
        with pytest.raises(ValueError, match="do not fit"):
            TransferLimits(block_bytes=wrong)
