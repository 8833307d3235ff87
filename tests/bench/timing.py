"""How a call is timed. Needs nothing but the standard library, as other engines' processes import it."""

from __future__ import annotations

import time
from collections.abc import Callable


def timed_ms(call: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    call()
    return (time.perf_counter() - began_s) * 1e3


def warm_up(call: Callable[[], object], runs: int, warm_s: float) -> None:
    """So many runs, and what more begins in `warm_s`: weights are in the caches, as where a process works on and on."""
    until_s = time.perf_counter() + warm_s
    done = 0
    while done < runs or time.perf_counter() < until_s:
        call()
        done += 1
