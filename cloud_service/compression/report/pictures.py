"""Pictures as inline SVG. Pure.

Places are in percent and letters in pixels, so that a picture may be as narrow as a phone and stay legible. All
text that is not ours is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from cloud_service.compression.report.axes import Axis

PLOT_HEIGHT = 260
_LABEL_HEIGHT = 20
_BAR_HEIGHT = 10
_BAR_STEP = 15
_GROUP_GAP = 8


@dataclass(frozen=True)
class Dot:
    """A point of a scatter plot. `low` and `high`: its interval along y. `kind`: its look; `mark` stands in it."""

    x: float
    y: float
    title: str
    kind: str
    mark: str = ""
    low: float | None = None
    high: float | None = None
    label: str = ""


@dataclass(frozen=True)
class Curve:
    """Points (x, y) joined in their order; `place` chooses the colour. `reaches`: each point's interval along y."""

    name: str
    points: tuple[tuple[float, float], ...]
    place: int
    reaches: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Bar:
    """One bar from 0 to `value`, `text` at its end; `ground` draws what there was before behind it."""

    value: float
    text: str
    place: int
    ground: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class BarGroup:
    """Bars under one label."""

    label: str
    bars: tuple[Bar, ...]


def scatter(dots: Sequence[Dot], front: Sequence[tuple[float, float]], x: Axis, y: Axis, about: str) -> Markup:
    """Dots in a field, and the front as stairs through its corners, given in order of x."""
    stairs = [
        piece
        for (x1, y1), (x2, y2) in zip(front, front[1:], strict=False)
        for piece in (_line(x, y, (x1, y1), (x2, y1), "front"), _line(x, y, (x2, y1), (x2, y2), "front"))
    ]
    whiskers = [
        _line(x, y, (dot.x, dot.low), (dot.x, dot.high), "whisker")
        for dot in dots
        if dot.low is not None and dot.high is not None
    ]
    return _field([*stairs, *whiskers, *(_dot(dot, x, y) for dot in dots)], x, y, about)


def curves(lines: Sequence[Curve], x: Axis, y: Axis, about: str) -> Markup:
    """Lines over a field, each point marked."""
    pieces = []
    for curve in lines:
        for start, end in zip(curve.points, curve.points[1:], strict=False):
            pieces.append(_line(x, y, start, end, f"curve s{curve.place}"))
        for (at, _), (low, high) in zip(curve.points, curve.reaches, strict=bool(curve.reaches)):
            pieces.append(_line(x, y, (at, low), (at, high), "whisker"))
        for place in curve.points:
            title = f"{curve.name}, {x.write(place[0])}: {y.write(place[1])}"
            pieces.append(_dot(Dot(*place, title, f"small f{curve.place}"), x, y))
    return _field(pieces, x, y, about)


def bars(groups: Sequence[BarGroup], axis: Axis, about: str) -> Markup:
    """Groups of horizontal bars, one below the other, each label above its bars."""
    pieces: list[Markup] = []
    top = 0
    for group in groups:
        pieces.append(Markup('<text class="name" x="0" y="{}">{}</text>').format(top + 14, group.label))
        top += _LABEL_HEIGHT
        for bar in group.bars:
            pieces.extend(_bar(bar, axis, top))
            top += _BAR_STEP
        top += _GROUP_GAP
    return Markup(
        '<div class="bars{}"><svg width="100%" height="{}" role="img" aria-label="{}">{}{}</svg></div>{}'
    ).format(
        " numbered" if axis.title else "",
        top,
        about,
        _upright_lines(axis),
        Markup("").join(pieces),
        _across(axis) if axis.title else "",
    )


def _upright_lines(axis: Axis) -> Markup:
    """The line of zero; where the axis has a title, also its grid and numbers."""
    upright = Markup('<line class="{0}" x1="{1:.2f}%" x2="{1:.2f}%" y1="0" y2="100%"/>')
    number = Markup('<text class="tick" x="{:.2f}%" y="100%" dy="16" text-anchor="middle">{}</text>')
    numbered = [
        upright.format("grid", axis.percent(tick)) + number.format(axis.percent(tick), axis.write(tick))
        for tick in (axis.ticks if axis.title else ())
    ]
    return Markup("").join([*numbered, upright.format("base", axis.percent(0.0))])


def _across(axis: Axis) -> Markup:
    return Markup('<p class="axis-title across">{} →</p>').format(axis.title)


def _bar(bar: Bar, axis: Axis, top: int) -> list[Markup]:
    shapes = [_strip(axis, bar.ground, top, "ground")] if bar.ground is not None else []
    shapes.append(_strip(axis, bar.value, top, f"f{bar.place}"))
    if bar.low is not None and bar.high is not None:
        whisker = Markup('<line class="whisker" x1="{0:.2f}%" x2="{1:.2f}%" y1="{2}" y2="{2}"/>')
        shapes.append(whisker.format(axis.percent(bar.low), axis.percent(bar.high), top + _BAR_HEIGHT / 2))
    end = max(0.0, bar.value, bar.ground or 0.0, bar.high or 0.0)
    text = Markup('<text class="value" x="{:.2f}%" dx="5" y="{}">{}</text>')
    return [*shapes, text.format(axis.percent(end), top + _BAR_HEIGHT, bar.text)]


def _strip(axis: Axis, value: float, top: int, look: str) -> Markup:
    left, right = sorted((axis.percent(0.0), axis.percent(value)))
    return Markup('<rect class="{}" x="{:.2f}%" y="{}" width="{:.2f}%" height="{}" rx="2"/>').format(
        look, left, top, right - left, _BAR_HEIGHT
    )


def _field(pieces: Sequence[Markup], x: Axis, y: Axis, about: str) -> Markup:
    """A plot with its grid, its numbers and its titles."""
    grid = Markup("").join(
        Markup(
            '<line class="grid" x1="0" x2="100%" y1="{0:.2f}%" y2="{0:.2f}%"/>'
            '<text class="tick" x="-8" y="{0:.2f}%" dy="4" text-anchor="end">{1}</text>'
        ).format(100 - y.percent(tick), y.write(tick))
        for tick in y.ticks
    )
    below = Markup("").join(
        Markup('<text class="tick" x="{0:.2f}%" y="100%" dy="18" text-anchor="middle">{1}</text>').format(
            x.percent(tick), x.write(tick)
        )
        for tick in x.ticks
    )
    return Markup(
        '<p class="axis-title">↑ {}</p><div class="plot"><svg width="100%" height="{}" role="img" aria-label="{}">'
        '{}<line class="base" x1="0" x2="100%" y1="100%" y2="100%"/>{}{}</svg></div>'
        "{}"
    ).format(y.title, PLOT_HEIGHT, about, grid, below, Markup("").join(pieces), _across(x))


def _line(x: Axis, y: Axis, start: tuple[float, float], end: tuple[float, float], look: str) -> Markup:
    return Markup('<line class="{}" x1="{:.2f}%" y1="{:.2f}%" x2="{:.2f}%" y2="{:.2f}%"/>').format(
        look, x.percent(start[0]), 100 - y.percent(start[1]), x.percent(end[0]), 100 - y.percent(end[1])
    )


def _dot(dot: Dot, x: Axis, y: Axis) -> Markup:
    left, top = x.percent(dot.x), 100 - y.percent(dot.y)
    radius = 9 if dot.mark else 4
    shape = Markup('<circle class="{}" cx="{:.2f}%" cy="{:.2f}%" r="{}"><title>{}</title></circle>').format(
        dot.kind, left, top, radius, dot.title
    )
    if dot.mark:
        shape += Markup('<text class="mark" x="{:.2f}%" y="{:.2f}%" dy="4">{}</text>').format(left, top, dot.mark)
    if dot.label:
        above = 100 - y.percent(dot.y if dot.high is None else dot.high)
        shape += Markup('<text class="label" x="{:.2f}%" y="{:.2f}%" dy="-6">{}</text>').format(left, above, dot.label)
    return shape
