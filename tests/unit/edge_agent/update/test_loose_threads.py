from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import pytest

from edge_agent.update.loose_threads import LooseThreads

_PATIENCE_S = 60.0


def test_work_is_done_and_its_error_told() -> None:
    threads = LooseThreads(2, "test")
    assert threads.submit(lambda: 6 * 7).result(_PATIENCE_S) == 42
    with pytest.raises(ZeroDivisionError):
        threads.submit(lambda: 1 // 0).result(_PATIENCE_S)
    threads.close()


def test_no_more_threads_work_at_once_than_were_named() -> None:
    threads, lock, together = LooseThreads(3, "test"), threading.Lock(), threading.Barrier(3)
    at_work, most = 0, 0

    def work() -> None:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        together.wait(_PATIENCE_S)
        with lock:
            at_work -= 1

    for each in [threads.submit(work) for _ in range(12)]:
        each.result(_PATIENCE_S)
    assert most == 3
    threads.close()


def test_after_closing_nothing_begins_and_what_is_under_way_ends() -> None:
    threads, began, may_end = LooseThreads(1, "test"), threading.Event(), threading.Event()

    def work() -> str:
        began.set()
        may_end.wait(_PATIENCE_S)
        return "done"

    under_way, waiting = threads.submit(work), threads.submit(work)
    assert began.wait(_PATIENCE_S)
    threads.close()
    for never in (waiting, threads.submit(work)):
        with pytest.raises(CancelledError):
            never.result(_PATIENCE_S)
    may_end.set()
    assert under_way.result(_PATIENCE_S) == "done"


def test_what_is_cancelled_before_its_turn_is_not_done() -> None:
    threads, may_end, was_done = LooseThreads(1, "test"), threading.Event(), threading.Event()
    first = threads.submit(lambda: may_end.wait(_PATIENCE_S))
    assert threads.submit(was_done.set).cancel()
    may_end.set()
    first.result(_PATIENCE_S)
    threads.submit(lambda: None).result(_PATIENCE_S)
    assert not was_done.is_set()
    threads.close()
