"""Finds all processes of a run, wherever they were moved to: each inherits a mark in its environment.

A process group would not do: the cloud service puts its children into groups of their own, and a child whose
parent was killed is nobody's descendant any more.
"""

from __future__ import annotations

import contextlib
import os

import psutil

VARIABLE = "TANDEM_DEMO_MARK"


def is_under(mark: str, prefix: str) -> bool:
    """Whether `mark`, as "run/process", is `prefix` or one below it."""
    return mark == prefix or mark.startswith(prefix + "/")


def marked(prefix: str) -> list[psutil.Process]:
    """The running processes, zombies apart, whose mark is `prefix` or lies below it."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            mark = process.environ().get(VARIABLE, "")
            if is_under(mark, prefix) and process.pid != os.getpid():
                found.append(process)
    return found


def signal_marked(prefix: str, number: int) -> bool:
    """Send a signal to all of them (0 only asks); False where none is left."""
    found = marked(prefix)
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
    return bool(found)
