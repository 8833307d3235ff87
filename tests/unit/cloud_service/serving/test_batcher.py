from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio.to_thread
import numpy as np
import pytest

from cloud_service.serving.batcher import BatchedLogits, Batcher, BatchReport, Ticket
from shared.clock import Clock, SystemClock
from shared.errors import DeadlineExpired, EngineError, NotReady, Overloaded
from shared.types import Priority
from tests.support.fake_clock import FakeClock
from tests.support.scripted_backend import ScriptedBackend

pytestmark = pytest.mark.anyio

LATER_S = 1e9


class Diary:
    """Implements `BatchObserver`: keeps what it is told."""

    def __init__(self) -> None:
        self.reports: list[BatchReport] = []
        self.queue_ms: list[float] = []
        self.dropped = 0

    def computed(self, report: BatchReport, queue_ms: Sequence[float]) -> None:
        self.reports.append(report)
        self.queue_ms += queue_ms

    def expired(self, count: int) -> None:
        self.dropped += count


@asynccontextmanager
async def batcher_of(
    backend: ScriptedBackend,
    diary: Diary | None = None,
    clock: Clock | None = None,
    *,
    max_batch: int = 4,
    max_queued: int = 100,
) -> AsyncIterator[Batcher]:
    batcher = Batcher(
        "test", backend, clock or SystemClock(), diary or Diary(), max_batch=max_batch, max_queued=max_queued
    )
    try:
        yield batcher
    finally:
        backend.release()
        batcher.close()


def ask(batcher: Batcher, number: int, deadline_s: float = LATER_S, tokens: int = 3) -> Ticket:
    return batcher.submit(np.full(tokens, number, np.int64), Priority.INTERACTIVE, deadline_s)


async def occupy(batcher: Batcher, backend: ScriptedBackend) -> Ticket:
    """Let the engine be busy with number 0 until the backend is released."""
    backend.hold()
    backend.begun.clear()
    ticket = ask(batcher, 0)
    assert await anyio.to_thread.run_sync(backend.begun.wait, 5.0)
    return ticket


async def ends_of(tickets: Sequence[Ticket]) -> list[BatchedLogits | BaseException]:
    return await asyncio.gather(*(ticket.result for ticket in tickets), return_exceptions=True)


async def test_one_request_to_a_free_engine_waits_for_nothing() -> None:
    backend = ScriptedBackend()
    async with batcher_of(backend) as batcher:
        waits_ms = []
        for number in range(20):
            waits_ms.append((await ask(batcher, number).result).timings.queue_ms)
    assert sorted(waits_ms)[10] < 2.0
    assert backend.batches == [[number] for number in range(20)]


async def test_the_line_fills_while_the_engine_is_busy_up_to_the_largest_batch() -> None:
    backend = ScriptedBackend()
    async with batcher_of(backend) as batcher:
        tickets = [await occupy(batcher, backend), *(ask(batcher, number) for number in range(1, 11))]
        backend.release()
        await asyncio.gather(*(ticket.result for ticket in tickets))
    assert backend.batches == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]


async def test_every_request_gets_its_own_row() -> None:
    backend = ScriptedBackend(labels=7)
    async with batcher_of(backend) as batcher:
        answers = await asyncio.gather(*(ask(batcher, number).result for number in range(7)))
    assert [int(answer.logits.argmax()) for answer in answers] == list(range(7))


async def test_statistics_tell_how_many_wait_and_compute() -> None:
    backend = ScriptedBackend()
    async with batcher_of(backend) as batcher:
        tickets = [await occupy(batcher, backend), *(ask(batcher, number) for number in range(1, 4))]
        statistics = batcher.statistics()
        backend.release()
        await ends_of(tickets)
    assert (statistics.queued, statistics.computing) == (3, 1)


async def test_a_withdrawn_request_is_never_computed() -> None:
    backend = ScriptedBackend()
    async with batcher_of(backend) as batcher:
        first = await occupy(batcher, backend)
        gone, stays = ask(batcher, 1), ask(batcher, 2)
        assert batcher.withdraw(gone)
        backend.release()
        await asyncio.gather(first.result, stays.result)
    assert backend.batches == [[0], [2]]
    assert gone.result.cancelled()


async def test_a_request_that_is_being_computed_cannot_be_withdrawn() -> None:
    backend = ScriptedBackend()
    async with batcher_of(backend) as batcher:
        ticket = await occupy(batcher, backend)
        assert not batcher.withdraw(ticket)
        backend.release()
        assert (await ticket.result).timings.batch_size == 1


async def test_an_expired_request_is_never_computed_and_says_so() -> None:
    backend, diary, clock = ScriptedBackend(), Diary(), FakeClock()
    async with batcher_of(backend, diary, clock) as batcher:
        await occupy(batcher, backend)
        late, in_time = ask(batcher, 1, clock.monotonic_s() + 1.0), ask(batcher, 2, clock.monotonic_s() + 3.0)
        clock.advance(2.0)
        backend.release()
        with pytest.raises(DeadlineExpired):
            await late.result
        await in_time.result
    assert backend.batches == [[0], [2]]
    assert diary.dropped == 1


async def test_a_full_line_refuses_and_says_when_it_will_have_moved() -> None:
    backend = ScriptedBackend(item_s=0.01)
    async with batcher_of(backend, max_batch=1, max_queued=4) as batcher:
        for number in range(5):
            await ask(batcher, number).result
        backend.batches.clear()
        tickets = [await occupy(batcher, backend), *(ask(batcher, number) for number in range(1, 5))]
        with pytest.raises(Overloaded, match="4 requests are waiting") as refusal:
            ask(batcher, 5)
        backend.release()
        await ends_of(tickets)
    assert 0.02 <= refusal.value.retry_after_s <= 0.2


async def test_a_text_that_the_model_fails_on_fails_alone() -> None:
    backend = ScriptedBackend()
    backend.poison = {2: EngineError("the graph broke")}
    async with batcher_of(backend) as batcher:
        tickets = [await occupy(batcher, backend), *(ask(batcher, number) for number in (1, 2, 3))]
        backend.release()
        ends = await ends_of(tickets)
    assert [isinstance(end, EngineError) for end in ends] == [False, False, True, False]


@pytest.mark.parametrize("fault", [EngineError("the graph broke"), RuntimeError("a bug"), MemoryError()], ids=repr)
async def test_a_failed_batch_answers_with_the_engines_error_and_the_next_one_is_computed(fault: Exception) -> None:
    backend = ScriptedBackend()
    backend.poison = {1: fault}
    async with batcher_of(backend) as batcher:
        with pytest.raises(EngineError):
            await ask(batcher, 1).result
        assert int((await ask(batcher, 2).result).logits.argmax()) == 2


async def test_the_compute_of_a_failed_batch_is_counted() -> None:
    backend, diary = ScriptedBackend(batch_s=0.01, batch_cpu_s=0.25), Diary()
    backend.poison = {1: EngineError("the graph broke")}
    async with batcher_of(backend, diary) as batcher:
        with pytest.raises(EngineError):
            await ask(batcher, 1).result
    assert [report.size for report in diary.reports] == [1]
    assert diary.reports[0].wall_s >= 0.01
    assert diary.reports[0].cpu_s >= 0.25


async def test_the_timings_of_a_batch_are_shared_by_its_members() -> None:
    backend = ScriptedBackend(batch_s=0.02)
    async with batcher_of(backend) as batcher:
        first = await occupy(batcher, backend)
        tickets = [ask(batcher, number) for number in range(1, 5)]
        began_s = time.monotonic()
        await asyncio.sleep(0.02)
        backend.release()
        await first.result
        timings = [(await ticket.result).timings for ticket in tickets]
        elapsed_ms = (time.monotonic() - began_s) * 1e3
    assert {timing.batch_size for timing in timings} == {4}
    for timing in timings:
        assert timing.batch_ms >= 20.0
        assert timing.compute_ms == pytest.approx(timing.batch_ms / 4)
        assert 20.0 <= timing.queue_ms <= elapsed_ms - timing.batch_ms + 1.0


async def test_closing_refuses_whoever_waits_whatever_their_length_and_lets_the_batch_under_way_end() -> None:
    backend = ScriptedBackend()
    async with batcher_of(backend) as batcher:
        first = await occupy(batcher, backend)
        waiting = [ask(batcher, number, tokens=tokens) for number, tokens in ((1, 3), (2, 200), (3, 9))]
        threading.Timer(0.05, backend.release).start()
        batcher.close()
        assert (await first.result).timings.batch_size == 1
        assert [type(end) for end in await ends_of(waiting)] == [NotReady] * 3
        with pytest.raises(NotReady):
            ask(batcher, 4)
    assert backend.batches == [[0]]


async def test_a_thousand_requests_of_many_clients_are_each_computed_once() -> None:
    backend = ScriptedBackend(labels=5)

    async def client(batcher: Batcher, number: int) -> list[int]:
        return [int((await ask(batcher, number + turn).result).logits.argmax()) for turn in range(20)]

    async with batcher_of(backend, max_batch=16) as batcher:
        got = await asyncio.gather(*(client(batcher, number) for number in range(50)))
    assert got == [[(number + turn) % 5 for turn in range(20)] for number in range(50)]
    assert sum(len(batch) for batch in backend.batches) == 1000
