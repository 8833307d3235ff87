"""From what the store says to what the Offload page shows. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timezone

from cloud_service.dashboard.chart import Chart, Line, lines_chart
from cloud_service.dashboard.offload_address import NONE, Dimension, OffloadAddress
from cloud_service.dashboard.offload_question import Choices, OffloadReading, Slice
from cloud_service.dashboard.offload_statistics import Difference, Share, difference
from cloud_service.dashboard.offload_table import Cell, Table, compared_table, name_of, table_of
from cloud_service.dashboard.ranges import PRESETS, Axis, Preset, Stretch, axis_before, written_moment
from cloud_service.dashboard.wording import percentage_points

LINES = 6
PATH = "/offload"


@dataclass(frozen=True)
class Way:
    """A link to another view; `is_current`: it is the one shown."""

    text: str
    address: str
    is_current: bool
    words: str = ""


@dataclass(frozen=True)
class Compared:
    """Two sides: their names, each measure of both, and the difference of their ratios; None where it has no sense."""

    left: str
    right: str
    measures: tuple[tuple[str, Cell, Cell], ...]
    difference: Difference | None
    words: str


@dataclass(frozen=True)
class Looked:
    """What was read for one view; `other` is the stretch compared with."""

    reading: OffloadReading
    axis: Axis
    other: OffloadReading | None = None
    other_axis: Axis | None = None


@dataclass(frozen=True)
class OffloadView:
    """Everything on the page. `fields` are the parts of the address that the form keeps."""

    address: OffloadAddress
    now_s: int
    axis: Axis
    other_axis: Axis | None
    table: Table
    chart: Chart
    legend: tuple[tuple[str, str], ...]
    compared: Compared | None
    dimensions: tuple[Way, ...]
    presets: tuple[Way, ...]
    choices: Choices
    values: tuple[tuple[str, str], ...]
    csv: str
    lasting: str
    without_comparison: str
    ranked_words: str
    is_ready: bool
    is_empty: bool


def offload_view(address: OffloadAddress, looked: Looked | None, now_s: int, axis: Axis) -> OffloadView:
    """The page at `now_s`; `looked` is None while the store is not set up."""
    told = looked or Looked(OffloadReading(), axis)
    reading = told.reading
    table = (
        compared_table(address.by, told.other, reading, _lines_of(address))
        if told.other
        else table_of(address.by, reading, _lines_of(address))
    )
    lines = _lines(address, told, table)
    what = "no requests" if address.by is Dimension.REASON else "nothing accepted"
    return OffloadView(
        address=address,
        now_s=now_s,
        axis=axis,
        other_axis=told.other_axis,
        table=table,
        chart=lines_chart(axis, lines, what),
        legend=tuple((line.name, line.words) for line in lines),
        compared=_compared(address, told),
        dimensions=tuple(_dimension_way(address, each) for each in Dimension),
        presets=tuple(_preset_way(address, each) for each in PRESETS.values()),
        choices=reading.choices,
        values=tuple((each.value or NONE, name_of(address.by, each.value)) for each in reading.slices),
        csv=_path(f"{PATH}.csv", address.query()),
        lasting=_path(PATH, _lasting(address, axis, told.other_axis, now_s).query()),
        without_comparison=_path(
            PATH, replace(address, is_against_before=False, against=None, pair=None).query()
        ),
        ranked_words=_ranked_words(reading),
        is_ready=looked is not None,
        is_empty=not reading.slices and not reading.whole.share.whole,
    )  # fmt: skip


def csv_name(address: OffloadAddress, axis: Axis) -> str:
    """The name of the exported file."""
    moments = (
        datetime.fromtimestamp(each, timezone.utc).strftime("%Y%m%dT%H%MZ") for each in (axis.since_s, axis.until_s)
    )
    return f"offload-by-{address.by.value}-{'-'.join(moments)}.csv"


def other_axis_of(address: OffloadAddress, axis: Axis, against: Axis | None) -> Axis | None:
    """The stretch compared with, if any; `against` is the one that the address names."""
    return axis_before(axis) if address.is_against_before else against


def _lines_of(address: OffloadAddress) -> int:
    """How many rows are drawn: with two stretches their wholes are, with two values those."""
    return 0 if address.is_against_before or address.against or address.pair else LINES


def _lines(address: OffloadAddress, told: Looked, table: Table) -> list[Line]:
    slices = {each.value: each for each in told.reading.slices}
    if told.other and told.other_axis:
        shift_s = told.axis.since_s - told.other_axis.since_s
        other = {start + shift_s: share for start, share in _aligned(told).items()}
        return [Line("line-1", "this stretch", told.reading.whole.shares), Line("line-2", "the other", other)]
    if address.pair:
        chosen = [(value, name_of(address.by, value)) for value in address.pair]
    else:
        chosen = [(row.value, row.name) for row in table.rows if row.line]
    return [
        Line(f"line-{place}", name, slices[value].shares)
        for place, (value, name) in enumerate(chosen, 1)
        if value in slices
    ]


def _aligned(told: Looked) -> dict[int, Share]:
    """The other stretch's course; in buckets of another width it cannot lie over this one's."""
    if told.other is None or told.other_axis is None or told.other_axis.width_s != told.axis.width_s:
        return {}
    return dict(told.other.whole.shares)


def _compared(address: OffloadAddress, told: Looked) -> Compared | None:
    if told.other is not None:
        return _sides(address.by, "the other stretch", told.other, told.other.whole, "this stretch", told.reading,
                      told.reading.whole)  # fmt: skip
    if address.pair is None:
        return None
    found = {each.value: each for each in told.reading.slices}
    left, right = (found.get(value, Slice(value, Share(0, 0))) for value in address.pair)
    names = [name_of(address.by, value) for value in address.pair]
    return _sides(address.by, names[0], told.reading, left, names[1], told.reading, right)


def _sides(
    by: Dimension, left_name: str, left_of: OffloadReading, left: Slice, right_name: str, right_of: OffloadReading,
    right: Slice,
) -> Compared:  # fmt: skip
    """Every column of the plain table becomes a line with both sides."""
    sides = []
    for reading, side in ((left_of, left), (right_of, right)):
        table = table_of(by, replace(reading, slices=(side,), rest=None, rest_values=0), 0)
        sides.append(table.rows[0])
        titles = table.titles
    measures = tuple((title, sides[0].cells[place], sides[1].cells[place]) for place, title in enumerate(titles))
    is_parted = by is Dimension.REASON and left_of is right_of
    found = None if is_parted else difference(left.share, right.share)
    return Compared(left_name, right_name, measures, found, _difference_words(by, found, is_parted=is_parted))


def _difference_words(by: Dimension, found: Difference | None, *, is_parted: bool) -> str:
    if is_parted:
        return "Two reasons share one denominator, so their shares are not independent and no interval is given."
    if found is None:
        return "There is no difference to tell: one side has no requests, or more wanted than accepted."
    told = "The interval leaves zero out." if found.is_clear else "Zero lies in the interval: it may be chance."
    return (
        f"{percentage_points(found.value)}, 95% interval {percentage_points(found.lower)} to "
        f"{percentage_points(found.upper)}. {told}"
    )


def _dimension_way(address: OffloadAddress, by: Dimension) -> Way:
    return Way(by.words, _path(PATH, address.by_dimension(by).query()), by is address.by)


def _preset_way(address: OffloadAddress, preset: Preset) -> Way:
    there = address.over(Stretch(preset))
    return Way(preset.key, _path(PATH, there.query()), address.stretch.preset == preset, f"last {preset.words}")


def _lasting(address: OffloadAddress, axis: Axis, other: Axis | None, now_s: int) -> OffloadAddress:
    """The same view with its moments fixed, so that it shows the same tomorrow."""
    fixed = address.over(Stretch(None, axis.since_s, axis.until_s))
    if address.is_against_before or other is None:
        return fixed
    return replace(fixed, against=Stretch(None, other.since_s, other.until_s))


def _ranked_words(reading: OffloadReading) -> str:
    if reading.ranked is None or not reading.rest_values:
        return ""
    kind = "hours" if reading.ranked.width_s < 86_400 else "days"
    return (
        f"Shown are the devices that wanted most from {written_moment(reading.ranked.since_s)} to "
        f"{written_moment(reading.ranked.until_s)}, in whole {kind}; all figures are of the stretch itself."
    )


def _path(path: str, query: str) -> str:
    return f"{path}?{query}" if query else path
