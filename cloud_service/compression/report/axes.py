"""From numbers to places on an axis. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

_ROOM = 0.06


@dataclass(frozen=True)
class Axis:
    """A linear scale from `lowest` to `highest`, with a mark at each of `ticks`; `title` names what and its unit."""

    title: str
    lowest: float
    highest: float
    ticks: tuple[float, ...]
    write: Callable[[float], str]

    def percent(self, value: float) -> float:
        """Where `value` lies, in percent of the axis's length."""
        return (value - self.lowest) / (self.highest - self.lowest) * 100


def axis_over(
    title: str,
    values: Iterable[float],
    write: Callable[[float], str],
    wanted_ticks: int = 4,
    *,
    from_zero: bool = False,
) -> Axis:
    """An axis that holds `values` with a little room about them, from 0 on where `from_zero`.

    Raises:
        ValueError: there are no values.
    """
    known = [*values, 0.0] if from_zero else list(values)
    low, high = min(known), max(known)
    if high - low < 1e-12:
        low, high = low - max(abs(low) * 0.05, 1e-3), high + max(abs(high) * 0.05, 1e-3)
    room = (high - low) * _ROOM
    starts_at_zero = from_zero and low >= 0
    low, high = (0.0 if starts_at_zero else low - room), high + room
    return Axis(title, low, high, nice_ticks(low, high, wanted_ticks), write)


def nice_ticks(low: float, high: float, wanted: int) -> tuple[float, ...]:
    """About `wanted` round numbers, 1, 2, 2.5 or 5 times a power of ten apart, within [low, high]."""
    rough = (high - low) / max(1, wanted)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return tuple(round(index * step, 12) for index in range(first, last + 1))
