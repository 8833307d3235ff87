"""A thread for what must not delay answers: at low priority, and with the interpreter given back quickly."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_NICEST = 19
_NICER_BY = 5
"""Not more: a thread that is never scheduled while it holds the interpreter would keep all others waiting."""

_SWITCH_INTERVAL_S = 0.0005
_switching = threading.Lock()
_usual_interval_s: list[float] = []


class Pace:
    """`with pace:` around each step of long work: the thread then rests for so many times as long as the step took.

    One step at a time. So others wait for one step at most, and a device that is half busy keeps up.
    """

    def __init__(self, rests: float = 4.0) -> None:
        self._rests = rests
        self._began_s = 0.0

    def __enter__(self) -> None:
        self._began_s = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        time.sleep(self._rests * (time.perf_counter() - self._began_s))


class QuietThread:
    """One worker. `lowers_priority` False where threads that it starts are to outlive the work: they inherit it."""

    def __init__(self, name: str, *, lowers_priority: bool = True) -> None:
        lower = _lower_priority if lowers_priority else _leave_priority
        self.executor = ThreadPoolExecutor(1, thread_name_prefix=name, initializer=lower)

    async def run(self, work: Callable[[], _T]) -> _T:
        """Do `work` there. A caller that is cancelled leaves it to end by itself."""
        return await asyncio.get_running_loop().run_in_executor(self.executor, _quickly, work)

    def close(self) -> None:
        """Begin nothing more."""
        self.executor.shutdown(wait=False, cancel_futures=True)


def give_back_freed() -> None:
    """Return freed memory to the system, where the C library can; glibc keeps it otherwise."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return


def _quickly(work: Callable[[], _T]) -> _T:
    with _short_turns():
        return work()


@contextmanager
def _short_turns() -> Iterator[None]:
    """While Python code runs here, the event loop has the interpreter back after half a millisecond, not after five."""
    with _switching:
        _usual_interval_s.append(sys.getswitchinterval())
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        yield
    finally:
        with _switching:
            usual_s = _usual_interval_s.pop()
            if not _usual_interval_s:
                sys.setswitchinterval(usual_s)


def _lower_priority() -> None:
    """Of this thread alone: Linux counts priorities by thread."""
    try:
        if sys.platform == "linux":
            thread_id = threading.get_native_id()
            niceness = min(_NICEST, os.getpriority(os.PRIO_PROCESS, thread_id) + _NICER_BY)
            os.setpriority(os.PRIO_PROCESS, thread_id, niceness)
    except OSError as error:
        _log.debug("the thread keeps its priority: %s", error)


def _leave_priority() -> None:
    return None
