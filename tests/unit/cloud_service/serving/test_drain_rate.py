from __future__ import annotations

import pytest

from cloud_service.serving.drain_rate import DrainRate


def test_before_the_first_batch_a_second_is_asked_for() -> None:
    assert DrainRate().seconds_for(100) == 1.0


def test_the_hint_is_what_the_engine_needs_for_the_line() -> None:
    rate = DrainRate()
    rate.observe(16, 0.1)
    assert rate.seconds_for(320) == pytest.approx(2.0)


def test_a_slower_engine_is_noticed_within_some_batches() -> None:
    rate = DrainRate()
    rate.observe(16, 0.1)
    for _ in range(20):
        rate.observe(16, 1.0)
    assert rate.items_per_s == pytest.approx(16.0, rel=0.15)


def test_the_hint_stays_within_reason() -> None:
    rate = DrainRate()
    rate.observe(1, 1e-9)
    assert rate.seconds_for(1) == 0.02
    slow = DrainRate()
    slow.observe(1, 10.0)
    assert slow.seconds_for(1000) == 30.0
