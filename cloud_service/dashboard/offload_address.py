"""The address of a view of the Offload page: everything that is shown stands in it, in one order. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from urllib.parse import urlencode

from cloud_service.dashboard.ranges import Stretch, stretch_between, stretch_of
from shared.errors import InputError
from shared.types import IDENTIFIER

NONE = "-"
"""Stands for the empty name, as a variant's where no test runs. No identifier looks like it."""

_KEYS = ("by", "range", "from", "to", "model", "ring", "version", "variant",
         "against", "with_from", "with_to", "left", "right")  # fmt: skip
_FILTERS = ("model", "ring", "version", "variant")
_LONGEST = 200


class Dimension(str, Enum):
    """What the table has one row for."""

    DEVICE = "device"
    RING = "ring"
    VERSION = "version"
    VARIANT = "variant"
    REASON = "reason"
    LABEL = "label"

    @property
    def words(self) -> str:
        """As a column's title."""
        return "Model version" if self is Dimension.VERSION else self.value.capitalize()


@dataclass(frozen=True)
class Filter:
    """Only what is counted under these; None: any. An empty variant is that of requests in no test."""

    model: str | None = None
    ring: str | None = None
    version: str | None = None
    variant: str | None = None


@dataclass(frozen=True)
class OffloadAddress:
    """What is shown. At most one of `against` and `pair` is set.

    `against`: the stretch to compare with; `is_against_before`: that is the one just before. `pair`: two values of the
    dimension side by side.
    """

    by: Dimension = Dimension.RING
    stretch: Stretch = field(default_factory=Stretch)
    filter: Filter = field(default_factory=Filter)
    is_against_before: bool = False
    against: Stretch | None = None
    pair: tuple[str, str] | None = None

    def query(self) -> str:
        """The canonical query: defaults left out, the rest in a fixed order."""
        parts = {} if self.by is Dimension.RING else {"by": self.by.value}
        parts |= self.stretch.address()
        values = {name: getattr(self.filter, name) for name in _FILTERS}
        parts |= {name: value or NONE for name, value in values.items() if value is not None}
        if self.is_against_before:
            parts["against"] = "before"
        if self.against:
            parts |= {f"with_{name}": value for name, value in self.against.address().items()}
        if self.pair:
            parts |= dict(zip(("left", "right"), (value or NONE for value in self.pair), strict=True))
        return urlencode(parts, safe=":/")

    def by_dimension(self, by: Dimension) -> OffloadAddress:
        """The same in rows of another kind; a pair of values has no meaning there."""
        return replace(self, by=by, pair=None)

    def over(self, stretch: Stretch) -> OffloadAddress:
        """The same at another time."""
        return replace(self, stretch=stretch)


def offload_address(items: Sequence[tuple[str, str]], now_s: int) -> OffloadAddress:
    """The view that the parts of a query name; empty ones count as left out.

    Raises:
        InputError: a part is unknown, given twice, out of its range or at odds with another; the text says which.
    """
    values = _checked(items)
    by = values.get("by", Dimension.RING.value)
    if by not in {each.value for each in Dimension}:
        raise InputError(f"by must be one of {', '.join(each.value for each in Dimension)}, not {by!r}")
    names = {name: _name(name, values[name]) for name in _FILTERS if name in values}
    against = values.get("against")
    if against not in (None, "before"):
        raise InputError(f"against must be before, not {against!r}; another stretch is named by with_from and with_to")
    other = _other_stretch(values, now_s)
    pair = _pair(values)
    if sum((against is not None, other is not None, pair is not None)) > 1:
        raise InputError("compare with one thing: against=before, with_from and with_to, or left and right")
    return OffloadAddress(Dimension(by), stretch_of(values, now_s), Filter(**names), against is not None, other, pair)


def _checked(items: Sequence[tuple[str, str]]) -> dict[str, str]:
    values: dict[str, str] = {}
    for key, value in items:
        if key not in _KEYS:
            raise InputError(f"{key[:40]!r} is not known here; use {', '.join(_KEYS)}")
        if key in values:
            raise InputError(f"{key} is given twice")
        if len(value) > _LONGEST:
            raise InputError(f"{key} is longer than {_LONGEST} characters")
        if value:
            values[key] = value
    return values


def _name(kind: str, value: str) -> str:
    if value == NONE:
        return ""
    if not IDENTIFIER.fullmatch(value):
        raise InputError(f"{kind} {value[:80]!r} is not a name: use letters, digits, '.', '_' or '-', 64 at most")
    return value


def _other_stretch(values: dict[str, str], now_s: int) -> Stretch | None:
    since, until = values.get("with_from", ""), values.get("with_to", "")
    if until and not since:
        raise InputError("with_to needs a with_from beside it")
    if not since:
        return None
    try:
        return stretch_between(since, until, now_s)
    except InputError as error:
        raise InputError(f"with_from, with_to: {error}") from error


def _pair(values: dict[str, str]) -> tuple[str, str] | None:
    left, right = values.get("left"), values.get("right")
    if left is None and right is None:
        return None
    if left is None or right is None:
        raise InputError("compare two values: left and right are both needed")
    if left == right:
        raise InputError("left and right are the same")
    return ("" if left == NONE else left), ("" if right == NONE else right)
