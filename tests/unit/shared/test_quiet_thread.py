from __future__ import annotations

import os
import sys
import threading
import time

import pytest

from shared.quiet_thread import Pace, QuietThread, give_back_freed

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.skipif(sys.platform != "linux", reason="priorities are by thread on Linux alone")
async def test_the_thread_alone_has_a_low_priority() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    quiet, usual = QuietThread("tandem-test"), QuietThread("tandem-test", lowers_priority=False)
    try:
        assert await quiet.run(niceness) == min(19, niceness() + 5)
        assert await usual.run(niceness) == niceness()
    finally:
        quiet.close()
        usual.close()


async def test_while_it_works_the_interpreter_is_handed_over_quickly_and_as_usual_afterwards() -> None:
    usual_s, one, other = sys.getswitchinterval(), QuietThread("tandem-one"), QuietThread("tandem-other")
    begun, ended = threading.Event(), threading.Event()
    try:
        task = one.executor.submit(begun.wait, 5)
        assert await other.run(sys.getswitchinterval) < usual_s

        def fails() -> None:
            ended.set()
            raise ValueError("on purpose")

        with pytest.raises(ValueError, match="on purpose"):
            await other.run(fails)
        begun.set()
        assert task.result(5) and ended.is_set() and sys.getswitchinterval() == usual_s
    finally:
        one.close()
        other.close()


def test_after_each_step_it_rests_so_many_times_as_long_as_the_step_took() -> None:
    pace, began_s = Pace(3.0), time.perf_counter()
    with pace:
        time.sleep(0.01)
    assert time.perf_counter() - began_s >= 0.04


def test_giving_memory_back_never_fails() -> None:
    give_back_freed()
