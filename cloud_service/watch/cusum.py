"""When a risk has risen: a Bernoulli CUSUM with an exact false-alarm probability.

Each wrong answer adds `step` - 1, each right one takes 1 away, never under zero; at `limit` there is an alarm (Reynolds
and Stoumbos 1999, Journal of Quality Technology 31). It is Page's likelihood ratio test of α against a risk of
2.5 α, scaled to whole numbers, so that its run length is that of a finite Markov chain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

OUT_OF_CONTROL = 2.5
"""The risk, in units of alpha, that is to be found fastest."""

_SETTLED = 1e-14
"""Where no state's chance changes by more in one answer, the distribution is taken as the one it comes to."""


@dataclass(frozen=True)
class CusumRule:
    """How much a wrong answer adds, and where the alarm is."""

    step: int
    limit: int

    def after(self, value: int, judged: int, wrong: int) -> int:
        """The sum after a batch whose order is unknown.

        It is added up as a whole, which never gives more than any order one by one: no alarm comes that would not
        have come.
        """
        return max(0, value + wrong * self.step - judged)


@lru_cache(maxsize=256)
def cusum_rule(alpha: float, level: float, period: int) -> CusumRule:
    """The smallest limit that any `period` answers of a risk of `alpha` reach with a probability of at most `level`."""
    step = _step(alpha)
    low, high = 0, step
    while false_alarm_probability(alpha, step, high, period) > level:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if false_alarm_probability(alpha, step, middle, period) > level:
            low = middle
        else:
            high = middle
    return CusumRule(step, high)


def false_alarm_probability(risk: float, step: int, limit: int, period: int) -> float:
    """How likely the sum reaches `limit` within the next `period` answers of this risk, however long it has run.

    That is from its quasi-stationary distribution, which the sum that has not alarmed comes to; from zero, where it
    begins, it is less likely.
    """
    states = np.zeros(limit)
    states[0], surviving = 1.0, 1.0
    rise = step - 1
    for _ in range(period):
        before, wrong, right = states, risk * states, (1.0 - risk) * states
        states = np.zeros(limit)
        states[:-1] = right[1:]
        states[0] += right[0]
        if rise < limit:
            states[rise:] += wrong[: limit - rise]
        surviving = float(states.sum())
        states /= surviving
        if np.abs(states - before).max() < _SETTLED:
            break
    return 1.0 - surviving**period


def _step(alpha: float) -> int:
    """Reynolds and Stoumbos' m, rounded up."""
    worse = min(OUT_OF_CONTROL * alpha, (1.0 + alpha) / 2.0)
    fall = -math.log((1.0 - worse) / (1.0 - alpha))
    return max(2, math.ceil((math.log(worse / alpha) + fall) / fall))
