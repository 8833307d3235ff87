"""Where work is done: in a worker, or on the event loop where it is alone and quick."""

from __future__ import annotations

import threading
import time

import anyio
import pytest

from edge_agent.compute import ComputePool
from shared.clock import SystemClock
from shared.errors import DeadlineExpired

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def name_of_thread() -> str:
    return threading.current_thread().name


def slow() -> str:
    time.sleep(0.01)
    return name_of_thread()


def soon() -> float:
    return time.monotonic() + 5.0


async def test_work_of_unknown_length_is_done_by_a_worker() -> None:
    pool = ComputePool(1, SystemClock())
    assert (await pool.run(name_of_thread, soon())).value.startswith("tandem-compute")
    assert (await pool.run(name_of_thread, soon(), "m")).value.startswith("tandem-compute")


async def test_quick_work_that_is_alone_is_done_at_once_on_the_event_loop() -> None:
    pool = ComputePool(1, SystemClock())
    await pool.run(name_of_thread, soon(), "m")
    assert (await pool.run(name_of_thread, soon(), "m")).value == name_of_thread()


async def test_slow_work_never_holds_up_the_event_loop() -> None:
    pool = ComputePool(1, SystemClock())
    for _ in range(3):
        assert (await pool.run(slow, soon(), "m")).value.startswith("tandem-compute")


async def test_quick_work_in_company_is_done_by_workers() -> None:
    pool = ComputePool(1, SystemClock())
    await pool.run(name_of_thread, soon(), "m")
    names: list[str] = []

    async def run() -> None:
        names.append((await pool.run(name_of_thread, soon(), "m")).value)

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(run)
    assert sum(name.startswith("tandem-compute") for name in names) >= 7


@pytest.mark.parametrize("kind", ["", "m"])
async def test_what_has_expired_is_not_begun(kind: str) -> None:
    pool = ComputePool(1, SystemClock())
    await pool.run(name_of_thread, soon(), kind)
    begun: list[str] = []
    with pytest.raises(DeadlineExpired):
        await pool.run(lambda: begun.append("begun"), time.monotonic() - 1.0, kind)
    assert begun == []


async def test_a_failure_reaches_the_caller_wherever_the_work_is_done() -> None:
    pool = ComputePool(1, SystemClock())

    def fail() -> str:
        raise ZeroDivisionError

    for kind in ("", "m"):
        await pool.run(name_of_thread, soon(), kind)
        with pytest.raises(ZeroDivisionError):
            await pool.run(fail, soon(), kind)
    assert (await pool.run(name_of_thread, soon(), "m")).value == name_of_thread()
