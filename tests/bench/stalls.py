"""How steady the machine is by itself: one thread that adds integers, and how much of its time goes many times slower.

A virtual machine may compute ten times slower for some tens of ms, with no interruption that its guest could count.
Percentiles of answers are at least what this says.
"""

from __future__ import annotations

import time

import numpy as np

from tests.bench.report import Figure

_SLOWER = 4.0
_ADDED = 4_000


def stalls(seconds: float = 10.0) -> list[Figure]:
    """The share of the time spent in slices of four times the usual or more, and the slowest slice by the usual one."""
    took_s, until_s = [], time.perf_counter() + seconds
    while (began_s := time.perf_counter()) < until_s:
        sum(range(_ADDED))
        took_s.append(time.perf_counter() - began_s)
    slices_s = np.asarray(took_s)
    usual_s = float(np.median(slices_s))
    slow_percent = slices_s[slices_s >= _SLOWER * usual_s].sum() / slices_s.sum() * 100
    return [
        Figure.of("the machine alone, adding: time at less than a quarter of its speed", [slow_percent], "%"),
        Figure.of("the machine alone, adding: the slowest slice by the usual one", [slices_s.max() / usual_s], ""),
    ]
