"""How a call is timed. Needs nothing but the standard library, as other engines' processes import it."""

from __future__ import annotations

import time
from collections.abc import Callable


def timed_ms(call: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    call()
    return (time.perf_counter() - began_s) * 1e3


def warm_up(call: Callable[[], object], warm_s: float) -> None:
    """One run, and what more begins in `warm_s`: the weights are in the caches, as where a process works on and on."""
    until_s = time.perf_counter() + warm_s
    call()
    while time.perf_counter() < until_s:
        call()
