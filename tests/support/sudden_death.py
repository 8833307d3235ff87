"""Processes that die by SIGKILL at a chosen moment, which the interpreter's own audit events tell.

Opening, making, renaming and removing what lies on disk are such events; each is raised just before it happens.
"""

from __future__ import annotations

import fnmatch
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

TIMEOUT_S = 60

Work = Callable[[], object]


def is_killed_at_event(number: int, work: Work) -> bool:
    """Whether `work`, in a child process, came to its audit event of that number (from 0), before which it dies."""

    def child() -> None:
        _die_at_event(number)
        work()
        os._exit(0)  # what ends a process in good order is no work

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(TIMEOUT_S)
    if process.is_alive():
        process.kill()
        raise TimeoutError(f"neither ended nor came to its death in {TIMEOUT_S} s")
    assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
    return process.exitcode != 0


def die_after_touching(pattern: str) -> None:
    """Let this process die at the event after the first that names a path like `pattern`."""
    is_touched = False

    def watch(_: str, arguments: tuple[object, ...]) -> None:
        nonlocal is_touched
        if is_touched:
            _die()
        is_touched = any(fnmatch.fnmatch(str(one), pattern) for one in arguments if isinstance(one, (str, Path)))

    sys.addaudithook(watch)


def _die_at_event(number: int) -> None:
    left = number

    def count(event: str, _: tuple[object, ...]) -> None:
        nonlocal left
        if event.startswith(("open", "os.", "shutil.")):
            left -= 1
        if left < 0:
            _die()

    sys.addaudithook(count)


def _die() -> None:
    signal.raise_signal(signal.SIGKILL)  # which, unlike os.kill, is no audit event itself
