from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.escalation.breaker import BreakerState, CircuitBreaker, Permit
from shared.backoff import Backoff


def make_breaker(failures: int = 3) -> CircuitBreaker:
    return CircuitBreaker(failures, Backoff(1.0, 8.0), lambda: 1.0)


def permit_of(breaker: CircuitBreaker, now_s: float) -> Permit:
    permit = breaker.acquire(now_s)
    assert permit is not None
    return permit


def opened(breaker: CircuitBreaker, now_s: float = 0.0, failures: int = 3) -> CircuitBreaker:
    for _ in range(failures):
        breaker.failed(permit_of(breaker, now_s), now_s)
    return breaker


def test_it_opens_after_failures_in_a_row_and_then_lets_nobody_through() -> None:
    breaker = opened(make_breaker())
    assert breaker.state(0.5) is BreakerState.OPEN
    assert breaker.acquire(0.5) is None


def test_a_success_between_failures_keeps_it_closed() -> None:
    breaker = opened(make_breaker(), failures=2)
    breaker.succeeded(permit_of(breaker, 0.0))
    opened(breaker, failures=2)
    assert breaker.state(0.0) is BreakerState.CLOSED


def test_when_the_wait_is_over_one_probe_at_a_time_goes_through() -> None:
    breaker = opened(make_breaker())
    assert breaker.state(1.0) is BreakerState.HALF_OPEN
    assert permit_of(breaker, 1.0).is_probe
    assert breaker.acquire(1.0) is None


def test_a_probe_that_succeeds_closes_it() -> None:
    breaker = opened(make_breaker())
    breaker.succeeded(permit_of(breaker, 1.0))
    assert breaker.state(1.0) is BreakerState.CLOSED
    assert not permit_of(breaker, 1.0).is_probe


def test_every_failed_probe_doubles_the_wait_up_to_the_longest() -> None:
    breaker = opened(make_breaker())
    now_s, waits = 1.0, []
    for _ in range(5):
        breaker.failed(permit_of(breaker, now_s), now_s)
        began_s = now_s
        while breaker.state(now_s) is BreakerState.OPEN:
            now_s += 0.5
        waits.append(now_s - began_s)
    assert waits == [2.0, 4.0, 8.0, 8.0, 8.0]


def test_an_abandoned_probe_leaves_room_for_the_next() -> None:
    breaker = opened(make_breaker())
    breaker.abandoned(permit_of(breaker, 1.0))
    assert permit_of(breaker, 1.0).is_probe


def test_calls_from_before_it_opened_do_not_prolong_the_wait() -> None:
    breaker = make_breaker()
    straggler = permit_of(breaker, 0.0)
    opened(breaker)
    breaker.failed(straggler, 0.9)
    assert breaker.state(1.0) is BreakerState.HALF_OPEN


@given(st.lists(st.tuples(st.sampled_from(["ok", "fail", "abandon"]), st.floats(0.0, 3.0)), max_size=60))
def test_with_a_good_cloud_it_always_closes_again(events: list[tuple[str, float]]) -> None:
    breaker, now_s = make_breaker(), 0.0
    for verdict, pause_s in events:
        now_s += pause_s
        permit = breaker.acquire(now_s)
        if permit is None:
            continue
        if verdict == "ok":
            breaker.succeeded(permit)
        elif verdict == "fail":
            breaker.failed(permit, now_s)
        else:
            breaker.abandoned(permit)
    breaker.succeeded(permit_of(breaker, now_s + 8.0))
    assert breaker.state(now_s + 8.0) is BreakerState.CLOSED
