from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_service.access.rate_limit import TokenBuckets, address_key


def test_so_many_at_once_and_then_one_each_while() -> None:
    buckets = TokenBuckets(burst=3, every_s=10)
    assert [buckets.take("a", 100.0) for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a", 100.0) == pytest.approx(10)
    assert buckets.take("a", 104.0) == pytest.approx(6)
    assert buckets.take("a", 110.0) == 0 and buckets.take("a", 110.0) > 0
    assert buckets.take("b", 110.0) == 0


def test_a_refused_attempt_costs_nothing_more() -> None:
    buckets = TokenBuckets(burst=1, every_s=10)
    buckets.take("a", 0)
    for _ in range(100):
        assert buckets.take("a", 5) == pytest.approx(5)
    assert buckets.take("a", 10) == 0


def test_what_is_given_back_can_be_taken_again() -> None:
    buckets = TokenBuckets(burst=1, every_s=10)
    buckets.take("a", 0)
    buckets.give_back("a")
    assert buckets.take("a", 0) == 0
    buckets.give_back("nobody")


def test_memory_is_bounded_and_the_key_used_longest_ago_is_forgotten() -> None:
    buckets = TokenBuckets(burst=1, every_s=10, max_keys=2)
    for key in ("a", "b", "c"):
        buckets.take(key, 0)
    assert len(buckets) == 2
    assert buckets.wait_s("a", 0) == 0 and buckets.wait_s("b", 0) > 0 and buckets.wait_s("c", 0) > 0


@given(st.lists(st.floats(0, 5), min_size=1, max_size=200), st.integers(1, 5))
def test_never_more_than_the_burst_and_what_time_gave(pauses_s: list[float], burst: int) -> None:
    buckets, now_s, taken = TokenBuckets(burst, every_s=1.0), 0.0, 0
    for pause_s in pauses_s:
        now_s += pause_s
        taken += buckets.take("a", now_s) == 0
        assert taken <= burst + now_s + 1e-6


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", ""),
        ("testclient", "testclient"),
    ],
)
def test_one_client_has_one_key_however_many_ipv6_addresses(address: str, key: str) -> None:
    assert address_key(address) == key
