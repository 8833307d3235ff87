"""Which of several variants are worth having at all. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from cloud_service.compression.report.choosing import Menu, Variant
from cloud_service.compression.report.document import Report


@dataclass(frozen=True)
class Point:
    """More `quality` is better, less of each of `costs` is better; all points of one front count the same costs."""

    quality: float
    costs: tuple[float, ...]

    def beats(self, other: Point) -> bool:
        """At least as good in everything, and better in something."""
        pairs = list(zip(self.costs, other.costs, strict=True))
        as_good = self.quality >= other.quality and all(mine <= theirs for mine, theirs in pairs)
        return as_good and (self.quality > other.quality or any(mine < theirs for mine, theirs in pairs))


def pareto_front(points: Sequence[Point]) -> tuple[bool, ...]:
    """Of each point: whether no other beats it. Points that are alike are all on the front, or none is.

    Raises:
        ValueError: the points have different numbers of costs.
    """
    return tuple(not any(other.beats(point) for other in points) for point in points)


def with_front_marked(report: Report) -> Report:
    """`report` with `is_on_front` set of menu and trials together: accuracy against bytes and latency.

    Where latencies of trials are forecasts for a device, menu and trials have a front each. A variant without
    one of these figures is not on a front.
    """
    rows = report.menu.rows if report.menu is not None else ()
    tried = report.variants()[len(rows) :]
    flags = iter(_flags((*rows, *tried)) if report.forecast_for is None else [*_flags(rows), *_flags(tried)])
    menu, tuning = report.menu, report.tuning
    if menu is not None:
        menu = Menu(tuple(dataclasses.replace(row, is_on_front=next(flags)) for row in menu.rows))
    if tuning is not None:
        trials = tuple(
            dataclasses.replace(trial, variant=dataclasses.replace(trial.variant, is_on_front=next(flags)))
            for trial in tuning.trials
        )
        tuning = dataclasses.replace(tuning, trials=trials)
    return dataclasses.replace(report, menu=menu, tuning=tuning)


def _flags(variants: Sequence[Variant]) -> list[bool]:
    points = [_point_of(variant) for variant in variants]
    flags = iter(pareto_front([point for point in points if point is not None]))
    return [point is not None and next(flags) for point in points]


def _point_of(variant: Variant) -> Point | None:
    if variant.accuracy is None or variant.file_bytes is None or variant.latency_ms is None:
        return None
    return Point(variant.accuracy.share.value, (float(variant.file_bytes), variant.latency_ms))
