"""From counts over time to the geometry of charts. Pure.

A chart is drawn in a field 1000 wide and 100 high, y downwards, which the page stretches; ticks are in percent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cloud_service.dashboard.offload_statistics import Share
from cloud_service.dashboard.ranges import DAY_S, Axis
from cloud_service.dashboard.wording import count, milliseconds, percent
from cloud_service.fleet.tally import NOTHING, Tally, p99_ms
from shared.types import Outcome

_WIDTH = 1000.0
_HEIGHT = 100.0
_GAP = 0.16
_RATIO_CEILINGS = (0.05, 0.1, 0.2, 0.5, 1.0)
STACK = (Outcome.EDGE, Outcome.CLOUD, Outcome.DEGRADED, Outcome.FAILED, Outcome.REJECTED)


@dataclass(frozen=True)
class Tick:
    """`percent` from the left, or from the top. `unix_s` on the time axis, written as `style` says: minutes or day."""

    percent: float
    text: str = ""
    unix_s: int = 0
    style: str = "minutes"


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


def points_json(chart: Chart) -> str:
    """[[begins_s, ends_s, text], …] for the page's script."""
    points = [[each.begins_s, each.ends_s, each.text] for each in chart.points]
    return json.dumps(points, ensure_ascii=False, separators=(",", ":"))


def ratio_of(tally: Tally) -> float | None:
    """The offload ratio; None where nothing was accepted."""
    counters = tally.counters
    return counters.wanted / counters.accepted if counters.accepted > 0 else None


def offload_chart(axis: Axis, tallies: Mapping[int, Tally]) -> Chart:
    """The offload ratio over time; broken where nothing was accepted. `tallies` by begin of their bucket."""
    starts = axis.starts
    ratios = [ratio_of(tallies.get(start, NOTHING)) for start in starts]
    known = [ratio for ratio in ratios if ratio is not None]
    ceiling = _ratio_ceiling(max(known, default=0.0))
    line, area = _line_and_area([None if ratio is None else min(1.0, ratio / ceiling) for ratio in ratios])
    return Chart(
        (Shape("area", area), Shape("line", line)),
        _ratio_ticks(ceiling),
        _time_ticks(axis),
        _points(axis, tallies, _offload_text),
        not known,
    )


def outcome_chart(axis: Axis, tallies: Mapping[int, Tally]) -> Chart:
    """How many requests ended how, stacked, for each bucket."""
    starts = axis.starts
    stacks = [_stack(tallies.get(start, NOTHING)) for start in starts]
    highest = max((sum(stack) for stack in stacks), default=0)
    ceiling = _nice_ceiling(highest)
    return Chart(
        tuple(Shape(outcome.value, _bars(stacks, place, ceiling)) for place, outcome in enumerate(STACK)),
        tuple(Tick((1 - share) * 100, count(round(ceiling * share))) for share in (1.0, 0.5)),
        _time_ticks(axis),
        _points(axis, tallies, _outcome_text),
        highest == 0,
    )


@dataclass(frozen=True)
class Line:
    """One of several courses: `name` chooses its colour, `words` stand in the readout; parts and wholes by bucket."""

    name: str
    words: str
    shares: Mapping[int, Share]


def lines_chart(axis: Axis, lines: Sequence[Line], nothing: str) -> Chart:
    """Several ratios over time, each broken where there is nothing; `nothing` is the readout of such a bucket."""
    courses = [[_ratio_at(line, start) for start in axis.starts] for line in lines]
    known = [ratio for course in courses for ratio in course if ratio is not None]
    ceiling = _ratio_ceiling(max(known, default=0.0))
    shapes = [
        Shape(line.name, _line_and_area([None if ratio is None else min(1.0, ratio / ceiling) for ratio in course])[0])
        for line, course in zip(lines, courses, strict=True)
    ]
    points = [Point(start, start + axis.width_s, _lines_text(lines, start) or nothing) for start in axis.starts]
    return Chart(tuple(shapes), _ratio_ticks(ceiling), _time_ticks(axis), tuple(points), not known)


def p99_chart(axis: Axis, tallies: Mapping[int, Tally]) -> Chart:
    """The 99th percentile of latency over time; broken where no request ended."""
    values = [p99_ms(tallies.get(start, NOTHING)) for start in axis.starts]
    known = [value for value in values if value is not None]
    ceiling = float(_nice_ceiling(math.ceil(max(known, default=1.0))))
    line, area = _line_and_area([None if value is None else min(1.0, value / ceiling) for value in values])
    ticks = tuple(Tick((1 - share) * 100, milliseconds(ceiling * share)) for share in (1.0, 0.5))
    points = tuple(
        Point(start, start + axis.width_s, "no request ended" if value is None else milliseconds(value))
        for start, value in zip(axis.starts, values, strict=True)
    )
    return Chart((Shape("area", area), Shape("line", line)), ticks, _time_ticks(axis), points, not known)


def _ratio_at(line: Line, start: int) -> float | None:
    share = line.shares.get(start)
    return share.ratio if share else None


def _lines_text(lines: Sequence[Line], start: int) -> str:
    told = []
    for line in lines:
        share = line.shares.get(start)
        if share and share.ratio is not None:
            told.append(f"{line.words} {percent(share.ratio)} ({count(share.part)} of {count(share.whole)})")
    return "; ".join(told)


def _ratio_ceiling(highest: float) -> float:
    return next((each for each in _RATIO_CEILINGS if each >= highest * 1.05), 1.0)


def _ratio_ticks(ceiling: float) -> tuple[Tick, ...]:
    return tuple(Tick((1 - share) * 100, percent(ceiling * share)) for share in (1.0, 0.5))


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


def _time_ticks(axis: Axis) -> tuple[Tick, ...]:
    every_s = axis.tick_every_s
    first = -(-axis.since_s // every_s) * every_s
    style = "day" if every_s >= DAY_S else "minutes"
    return tuple(
        Tick((unix_s - axis.since_s) / axis.span_s * 100, unix_s=unix_s, style=style)
        for unix_s in range(first, axis.until_s, every_s)
    )


def _points(axis: Axis, tallies: Mapping[int, Tally], describe: Callable[[Tally], str]) -> tuple[Point, ...]:
    return tuple(Point(start, start + axis.width_s, describe(tallies.get(start, NOTHING))) for start in axis.starts)


def _offload_text(tally: Tally) -> str:
    counters = tally.counters
    if counters.accepted <= 0:
        return "nothing accepted"
    return f"{percent(ratio_of(tally))}, wanted {count(counters.wanted)} of {count(counters.accepted)} accepted"


def _outcome_text(tally: Tally) -> str:
    told = [f"{count(number)} {outcome.value}" for outcome, number in zip(STACK, _stack(tally), strict=True) if number]
    return ", ".join(told) or "no requests"
