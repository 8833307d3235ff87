"""Threads for work that may hang in the network, and that no end of the process waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

_T = TypeVar("_T")


class LooseThreads:
    """At most `most` daemon threads, for work that holds nothing which must be brought to an end.

    A process does not end before the threads of a `ThreadPoolExecutor` have, and one that waits for a server's next
    byte, or for a name to be resolved, cannot be told to stop. Whoever submits bounds how much waits.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._lock = threading.Lock()
        self._waiting: SimpleQueue[tuple[Callable[[], None], Callable[[], bool]] | None] = SimpleQueue()
        self._begun = 0
        self._is_closed = False

    def submit(self, work: Callable[[], _T]) -> Future[_T]:
        """Do `work` when a thread is free. After `close` it is cancelled at once."""
        future: Future[_T] = Future()
        with self._lock:
            if self._is_closed:
                future.cancel()
                return future
            self._waiting.put((lambda: _do(work, future), future.cancel))
            if self._begun < self._most:
                self._begun += 1
                threading.Thread(target=self._run, name=f"{self._name}-{self._begun}", daemon=True).start()
        return future

    def close(self) -> None:
        """Cancel what has not begun. What is under way is left alone, and its thread ends after it."""
        with self._lock:
            self._is_closed = True
            with suppress(Empty):
                while True:
                    if (waiting := self._waiting.get_nowait()) is not None:
                        waiting[1]()
            for _ in range(self._begun):
                self._waiting.put(None)

    def _run(self) -> None:
        while (waiting := self._waiting.get()) is not None:
            waiting[0]()
            del waiting


def _do(work: Callable[[], _T], future: Future[_T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001 - told to whoever waits, as an executor does
        future.set_exception(error)
    else:
        future.set_result(result)
