"""From counts over time to the geometry of two charts. Pure.

A chart is drawn in a field 1000 wide and 100 high, y downwards, which the page stretches; ticks are in percent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cloud_service.dashboard.ranges import Range
from cloud_service.dashboard.wording import count, percent
from cloud_service.fleet.tally import NOTHING, Tally
from shared.types import Outcome

_WIDTH = 1000.0
_HEIGHT = 100.0
_GAP = 0.16
_RATIO_CEILINGS = (0.05, 0.1, 0.2, 0.5, 1.0)
_TICK_EVERY_S = {"5m": 60, "15m": 300, "1h": 900, "24h": 6 * 3600}
STACK = (Outcome.EDGE, Outcome.CLOUD, Outcome.DEGRADED, Outcome.FAILED, Outcome.REJECTED)


@dataclass(frozen=True)
class Tick:
    """`percent` from the left, or from the top. `unix_s` on the time axis."""

    percent: float
    text: str = ""
    unix_s: int = 0


@dataclass(frozen=True)
class Point:
    """One bucket, for the reader who points at it: from and to in seconds since 1970-01-01 UTC, and its figures."""

    begins_s: int
    ends_s: int
    text: str


@dataclass(frozen=True)
class Shape:
    """One SVG path; `name` chooses its colour."""

    name: str
    path: str


@dataclass(frozen=True)
class Chart:
    """All that the page draws."""

    shapes: tuple[Shape, ...]
    y_ticks: tuple[Tick, ...]
    x_ticks: tuple[Tick, ...]
    points: tuple[Point, ...]
    is_empty: bool


def ratio_of(tally: Tally) -> float | None:
    """The offload ratio; None where nothing was accepted."""
    counters = tally.counters
    return counters.wanted / counters.accepted if counters.accepted > 0 else None


def offload_chart(shown: Range, since_s: int, tallies: Mapping[int, Tally]) -> Chart:
    """The offload ratio over time; broken where nothing was accepted. `tallies` by begin of their bucket."""
    starts = _starts(shown, since_s)
    ratios = [ratio_of(tallies.get(start, NOTHING)) for start in starts]
    known = [ratio for ratio in ratios if ratio is not None]
    highest = max(known, default=0.0)
    ceiling = next((each for each in _RATIO_CEILINGS if each >= highest * 1.05), 1.0)
    line, area = _line_and_area([None if ratio is None else min(1.0, ratio / ceiling) for ratio in ratios])
    return Chart(
        (Shape("area", area), Shape("line", line)),
        tuple(Tick((1 - share) * 100, percent(ceiling * share)) for share in (1.0, 0.5)),
        _time_ticks(shown, starts),
        _points(shown, starts, tallies, _offload_text),
        not known,
    )


def outcome_chart(shown: Range, since_s: int, tallies: Mapping[int, Tally]) -> Chart:
    """How many requests ended how, stacked, for each bucket."""
    starts = _starts(shown, since_s)
    stacks = [_stack(tallies.get(start, NOTHING)) for start in starts]
    highest = max((sum(stack) for stack in stacks), default=0)
    ceiling = _nice_ceiling(highest)
    return Chart(
        tuple(Shape(outcome.value, _bars(stacks, place, ceiling)) for place, outcome in enumerate(STACK)),
        tuple(Tick((1 - share) * 100, count(round(ceiling * share))) for share in (1.0, 0.5)),
        _time_ticks(shown, starts),
        _points(shown, starts, tallies, _outcome_text),
        highest == 0,
    )


def _starts(shown: Range, since_s: int) -> range:
    return range(since_s, since_s + shown.span_s, shown.chart_width_s)


def _line_and_area(heights: Sequence[float | None]) -> tuple[str, str]:
    """Heights in [0, 1]. A lone bucket is drawn as wide as it is."""
    step = _WIDTH / len(heights)
    line, area = "", ""
    for begin, end in _runs(heights):
        places = [((index + 0.5) * step, (1 - (heights[index] or 0.0)) * _HEIGHT) for index in range(begin, end)]
        if len(places) == 1:
            (x, y) = places[0]
            places = [(x - step / 2, y), (x + step / 2, y)]
        track = "L".join(f"{x:.1f} {y:.2f}" for x, y in places)
        line += f"M{track}"
        area += f"M{places[0][0]:.1f} {_HEIGHT:g}L{track}L{places[-1][0]:.1f} {_HEIGHT:g}Z"
    return line, area


def _runs(heights: Sequence[float | None]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    begin = None
    for index, height in enumerate([*heights, None]):
        if height is not None and begin is None:
            begin = index
        elif height is None and begin is not None:
            runs.append((begin, index))
            begin = None
    return runs


def _stack(tally: Tally) -> tuple[int, ...]:
    counters = tally.counters
    return (counters.edge, counters.cloud, counters.degraded, counters.failed, counters.rejected)


def _bars(stacks: Sequence[Sequence[int]], place: int, ceiling: int) -> str:
    step = _WIDTH / len(stacks)
    path = ""
    for index, stack in enumerate(stacks):
        if stack[place]:
            top = _HEIGHT * (1 - sum(stack[: place + 1]) / ceiling)
            height = _HEIGHT * stack[place] / ceiling
            left, width = (index + _GAP / 2) * step, (1 - _GAP) * step
            path += f"M{left:.1f} {top:.2f}h{width:.1f}v{height:.2f}h{-width:.1f}Z"
    return path


def _nice_ceiling(highest: int) -> int:
    """The least of 2, 4, 6, 8, 10, 20, 40, … that is not below `highest`; each halves evenly."""
    size = int(10 ** math.floor(math.log10(max(1, highest - 1))))
    return next(digit * size for digit in (2, 4, 6, 8, 10) if digit * size >= highest)


def _time_ticks(shown: Range, starts: range) -> tuple[Tick, ...]:
    every_s = _TICK_EVERY_S[shown.key]
    first = -(-starts.start // every_s) * every_s
    span_s = starts.stop - starts.start
    return tuple(
        Tick((unix_s - starts.start) / span_s * 100, unix_s=unix_s) for unix_s in range(first, starts.stop, every_s)
    )


def _points(
    shown: Range, starts: range, tallies: Mapping[int, Tally], describe: Callable[[Tally], str]
) -> tuple[Point, ...]:
    return tuple(Point(start, start + shown.chart_width_s, describe(tallies.get(start, NOTHING))) for start in starts)


def _offload_text(tally: Tally) -> str:
    counters = tally.counters
    if counters.accepted <= 0:
        return "nothing accepted"
    return f"{percent(ratio_of(tally))}, wanted {count(counters.wanted)} of {count(counters.accepted)} accepted"


def _outcome_text(tally: Tally) -> str:
    told = [f"{count(number)} {outcome.value}" for outcome, number in zip(STACK, _stack(tally), strict=True) if number]
    return ", ".join(told) or "no requests"
