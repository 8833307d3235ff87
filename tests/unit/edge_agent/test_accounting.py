from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.accounting import CallTicket, Ledger, RequestTicket
from shared.codec import decode_telemetry, encode_telemetry
from shared.errors import CloudTimedOut, CloudUnavailable, DeadlineExpired, EngineError
from shared.types import ModelIdentity, ModelTelemetry, Outcome, Reason
from tests.support.edge_parts import assert_counters_add_up
from tests.support.fake_clock import FakeClock

ENDINGS = ["edge", "cloud", "degraded", "expired", "engine", "cancelled", "forgotten"]
FAULTS: dict[str, BaseException] = {
    "expired": DeadlineExpired("late"),
    "engine": EngineError("broken"),
    "cancelled": asyncio.CancelledError(),
}
CALL_FAULTS: dict[str, BaseException | None] = {
    "served": None,
    "failed": CloudUnavailable("away"),
    "timed_out": CloudTimedOut("slow"),
    "cancelled": asyncio.CancelledError(),
}


def leave(block: AbstractContextManager[object], error: BaseException | None) -> None:
    block.__exit__(type(error) if error else None, error, None)


class Run:
    """Many requests on one ledger, moved on step by step in any order."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.ledger = Ledger(self.clock)
        self.open: list[tuple[RequestTicket, list[CallTicket]]] = []

    def step(self, action: str, which: int, ending: str, call_ending: str) -> None:
        self.clock.advance(0.001)
        if action == "reject":
            self.ledger.reject(Reason.BAD_INPUT)
        elif action == "accept":
            self.open.append((self.ledger.accept(self.clock.monotonic_s()).__enter__(), []))
        elif self.open:
            ticket, calls = self.open[which % len(self.open)]
            if action == "want":
                ticket.predicted("card", 0.3, wanted=True)
            elif action == "call":
                calls.append(ticket.call().__enter__())
            elif action == "hang up" and calls:
                leave(calls.pop(), CALL_FAULTS[call_ending])
            elif action == "end":
                self.end(which % len(self.open), ending)

    def end(self, position: int, ending: str) -> None:
        ticket, calls = self.open.pop(position)
        for call in calls:
            leave(call, asyncio.CancelledError())
        if ending in ("edge", "cloud", "degraded"):
            ticket.settle(Outcome(ending), Reason.UNCERTAIN)
        leave(ticket, FAULTS.get(ending))


steps = st.tuples(
    st.sampled_from(["reject", "accept", "accept", "want", "call", "hang up", "end", "end"]),
    st.integers(0, 50),
    st.sampled_from(ENDINGS),
    st.sampled_from(list(CALL_FAULTS)),
)


@given(st.lists(steps, max_size=60))
def test_the_sums_hold_after_every_event_in_any_order(events: list[tuple[str, int, str, str]]) -> None:
    run = Run()
    for event in events:
        run.step(*event)
        assert_counters_add_up(run.ledger.snapshot().counters)
    while run.open:
        run.end(0, "cancelled")
    snapshot = run.ledger.snapshot()
    assert_counters_add_up(snapshot.counters)
    assert snapshot.counters.in_flight == snapshot.counters.calls_in_flight == 0
    assert sum(snapshot.reasons.values()) == snapshot.counters.received
    timed = sum(sum(histogram.counts) for histogram in snapshot.latency_by_outcome.values())
    assert timed == snapshot.counters.accepted


@given(st.lists(steps, max_size=30))
def test_the_cloud_believes_every_snapshot(events: list[tuple[str, int, str, str]]) -> None:
    run = Run()
    for event in events:
        run.step(*event)
    snapshot = run.ledger.snapshot()
    telemetry = ModelTelemetry(
        "d1", "b1", 1, 0, 0, ModelIdentity("tiny", "1.0.0", "0" * 64), "", snapshot.counters,
        snapshot.latency_by_outcome, snapshot.reasons,
    )  # fmt: skip
    assert decode_telemetry(encode_telemetry(telemetry)).counters == snapshot.counters


def test_a_request_that_is_forgotten_counts_as_failed() -> None:
    ledger = Ledger(FakeClock())
    with ledger.accept(0.0):
        pass
    assert ledger.snapshot().counters.failed == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DeadlineExpired("late"), Reason.DEADLINE),
        (EngineError("broken"), Reason.ENGINE_FAILED),
        (asyncio.CancelledError(), Reason.CANCELLED),
    ],
)
def test_a_failure_says_what_it_failed_by(error: BaseException, reason: Reason) -> None:
    ledger = Ledger(FakeClock())
    with pytest.raises(type(error)), ledger.accept(0.0):
        raise error
    assert ledger.snapshot().reasons == {reason.value: 1}


def test_a_request_that_settled_and_then_broke_counts_as_failed_and_once() -> None:
    ledger = Ledger(FakeClock())
    with pytest.raises(EngineError), ledger.accept(0.0) as ticket:
        ticket.settle(Outcome.EDGE, Reason.CONFIDENT)
        raise EngineError("while the answer was made")
    counters = ledger.snapshot().counters
    assert (counters.edge, counters.failed, counters.accepted) == (0, 1, 1)


def test_settling_twice_is_a_mistake_that_shows() -> None:
    ledger = Ledger(FakeClock())
    with pytest.raises(RuntimeError, match="settled twice"), ledger.accept(0.0) as ticket:
        ticket.settle(Outcome.EDGE, Reason.CONFIDENT)
        ticket.settle(Outcome.CLOUD, Reason.UNCERTAIN)


def test_wanting_the_cloud_twice_counts_once() -> None:
    ledger = Ledger(FakeClock())
    with ledger.accept(0.0) as ticket:
        ticket.predicted("card", 0.3, wanted=True)
        ticket.predicted("card", 0.3, wanted=True)
        ticket.settle(Outcome.EDGE, Reason.REQUESTED)
    assert ledger.snapshot().counters.wanted == 1
