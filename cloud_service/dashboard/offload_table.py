"""The tables of the Offload page: each cell as it is shown and as it is exported. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cloud_service.dashboard import csv_export
from cloud_service.dashboard.offload_address import Dimension
from cloud_service.dashboard.offload_question import OffloadReading, Slice
from cloud_service.dashboard.offload_statistics import Share, difference
from cloud_service.dashboard.wording import NO_VALUE, count, milliseconds, percent, percentage_points, signed_count
from cloud_service.fleet.tally import NOTHING, Tally
from shared.histogram import quantile_ms
from shared.types import LabelCounts


@dataclass(frozen=True)
class Cell:
    """What is shown, a note in small letters below, and what is exported."""

    text: str
    note: str = ""
    values: tuple[csv_export.Cell, ...] = ()


@dataclass(frozen=True)
class Column:
    """`names` are the columns of the export that one column shown stands for."""

    title: str
    names: tuple[str, ...]
    cell: Callable[[Slice], Cell]


@dataclass(frozen=True)
class TableRow:
    """`kind`: value, rest or whole. `line` numbers the course in the chart from 1 on; 0: it is not drawn."""

    value: str
    name: str
    kind: str
    line: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """What the page shows, and `rows` the export holds."""

    first: str
    titles: tuple[str, ...]
    names: tuple[str, ...]
    rows: tuple[TableRow, ...]

    def csv(self) -> str:
        """Exactly what is shown, as CSV."""
        rows = ([row.name, *(value for cell in row.cells for value in cell.values)] for row in self.rows)
        return csv_export.csv_text([self.first, *self.names], rows)


def table_of(by: Dimension, reading: OffloadReading, lines: int) -> Table:
    """One row for each value, the rest and the whole; the first `lines` rows are drawn."""
    columns = _columns(by)
    rows = [
        TableRow(each.value, name_of(by, each.value), "value", place + 1 if place < lines else 0, _cells(columns, each))
        for place, each in enumerate(reading.slices)
    ]
    for each, kind, name in ends_of(by, reading):
        rows.append(TableRow("", name, kind, 0, _cells(columns, each)))
    return Table(
        by.value, tuple(each.title for each in columns), tuple(name for each in columns for name in each.names),
        tuple(rows),
    )  # fmt: skip


def compared_table(by: Dimension, first: OffloadReading, second: OffloadReading, lines: int) -> Table:
    """The same values in two stretches, `first` the earlier, with the difference of their ratios."""
    rows = []
    pairs = [(each, _found(first, each.value), "value", name_of(by, each.value)) for each in second.slices]
    before = {kind: each for each, kind, _ in ends_of(by, first)}
    pairs += [(each, before.get(kind, _NOTHING), kind, name) for each, kind, name in ends_of(by, second)]
    for place, (now, then, kind, name) in enumerate(pairs):
        line = place + 1 if kind == "value" and place < lines else 0
        cells = (*_share_cells(then.share), *_share_cells(now.share), *difference_cells(then.share, now.share))
        rows.append(TableRow(now.value, name, kind, line, cells))
    part, whole = ("requests", "received") if by is Dimension.REASON else ("wanted", "accepted")
    names = [f"{when}_{what}" for when in ("other", "shown") for what in (part, whole, "ratio")]
    titles = (f"Other: {whole}", "Other: ratio", f"Shown: {whole}", "Shown: ratio", "Difference", "95% interval")
    return Table(by.value, titles, (*names, "difference", "interval_lower", "interval_upper"), tuple(rows))


def ends_of(by: Dimension, reading: OffloadReading) -> list[tuple[Slice, str, str]]:
    """The rows below the values: the rest, and the whole."""
    ends = []
    if reading.rest is not None:
        noun = "other" if reading.rest_values == 1 else "others"
        ends.append((reading.rest, "rest", f"{count(reading.rest_values)} {noun}"))
    every = {Dimension.REASON: "All that ended", Dimension.LABEL: "All with a label"}.get(by, "All")
    return [*ends, (reading.whole, "whole", every)]


def name_of(by: Dimension, value: str) -> str:
    """A value as it is shown."""
    if by is Dimension.VARIANT and not value:
        return "no test"
    return value.replace("_", " ") if by is Dimension.REASON else value


def difference_cells(first: Share, second: Share) -> tuple[Cell, Cell]:
    """The second ratio less the first, and its interval."""
    found = difference(first, second)
    if found is None:
        return Cell(NO_VALUE, values=(None,)), Cell(NO_VALUE, values=(None, None))
    interval = f"{percentage_points(found.lower)} to {percentage_points(found.upper)}"
    note = "clear" if found.is_clear else "may be chance"
    return Cell(percentage_points(found.value), note, (found.value,)), Cell(interval, values=(found.lower, found.upper))


_NOTHING = Slice("", Share(0, 0), tally=NOTHING)


def _found(reading: OffloadReading, value: str) -> Slice:
    return next((each for each in reading.slices if each.value == value), _NOTHING)


def _cells(columns: Sequence[Column], shown: Slice) -> tuple[Cell, ...]:
    return tuple(column.cell(shown) for column in columns)


def _columns(by: Dimension) -> tuple[Column, ...]:
    if by is Dimension.REASON:
        return _REASON_COLUMNS
    return _LABEL_COLUMNS if by is Dimension.LABEL else _COLUMNS


def _counter(title: str, name: str) -> Column:
    return Column(title, (name,), lambda shown: _count_cell(int(getattr(_tally(shown).counters, name))))


def _tally(shown: Slice) -> Tally:
    return shown.tally or NOTHING


def _label(shown: Slice) -> LabelCounts:
    return shown.label or LabelCounts()


def _count_cell(number: int, note: str = "") -> Cell:
    return Cell(count(number), note, (number,))


def _share_cells(share: Share) -> tuple[Cell, Cell]:
    """The denominator, and the ratio with its numerator; exported as part, whole, ratio."""
    of = f"{count(share.part)} of {count(share.whole)}" if share.whole else ""
    return Cell(count(share.whole), values=(share.part, share.whole)), Cell(percent(share.ratio), of, (share.ratio,))


def _ratio_cell(shown: Slice) -> Cell:
    """Its numerator stands in a column of its own."""
    share = shown.share
    return Cell(percent(share.ratio), f"of {count(share.whole)}" if share.whole else "", (share.ratio,))


def _in_flight_cell(shown: Slice) -> Cell:
    number = _tally(shown).counters.in_flight
    return Cell(signed_count(number), values=(number,))


def _audit_cell(shown: Slice) -> Cell:
    audits = _tally(shown).audits
    told = [(audits.disagreed, "disagreed"), (audits.failed, "failed")]
    note = ", ".join(f"{count(number)} {word}" for number, word in told if number)
    values = (audits.chosen, audits.agreed, audits.disagreed, audits.failed, audits.in_flight)
    return Cell(count(audits.chosen), note, values)


def _quantile_column(quantile: float) -> Column:
    def cell(shown: Slice) -> Cell:
        histogram = _tally(shown).latency.get("all")
        value = quantile_ms(histogram.dense(), quantile) if histogram else None
        return Cell(milliseconds(value), values=(value,))

    name = f"p{quantile * 100:.0f}"
    return Column(name, (f"{name}_ms",), cell)


_COLUMNS = (
    _counter("Accepted", "accepted"),
    _counter("Wanted", "wanted"),
    Column("Offload ratio", ("offload_ratio",), _ratio_cell),
    _counter("Edge", "edge"),
    _counter("Cloud", "cloud"),
    _counter("Degraded", "degraded"),
    _counter("Failed", "failed"),
    Column("In flight", ("in_flight_change",), _in_flight_cell),
    Column(
        "Audits", ("audits", "audits_agreed", "audits_disagreed", "audits_failed", "audits_in_flight_change"),
        _audit_cell,
    ),
    _quantile_column(0.5),
    _quantile_column(0.99),
)  # fmt: skip
_REASON_COLUMNS = (
    Column("Requests", ("requests",), lambda shown: _count_cell(shown.share.part)),
    Column("Received", ("received",), lambda shown: _count_cell(shown.share.whole)),
    Column("Share of received", ("share_of_received",), _ratio_cell),
)
_LABEL_COLUMNS = (
    Column("Accepted", ("accepted",), lambda shown: _count_cell(_label(shown).accepted)),
    Column("Wanted", ("wanted",), lambda shown: _count_cell(_label(shown).wanted)),
    Column("Offload ratio", ("offload_ratio",), _ratio_cell),
    Column("Audited", ("audited",), lambda shown: _count_cell(_label(shown).audited)),
    Column("Disagreed", ("disagreed",), lambda shown: _count_cell(_label(shown).disagreed)),
    Column("True label came back", ("labelled",), lambda shown: _count_cell(_label(shown).labelled)),
    Column("Wrong", ("wrong",), lambda shown: _count_cell(_label(shown).wrong)),
)
