"""The stretches of time that the page can show. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from cloud_service.fleet.buckets import FINE_S, HOUR_S, MINUTE_S, TEN_MINUTES_S
from cloud_service.fleet.reading import Question
from shared.errors import InputError

DAY_S = 24 * HOUR_S

RECENT_S = 60
"""What the page calls "now"."""


@dataclass(frozen=True)
class Range:
    """`key` stands in the address; `words` follow "the last". Widths are of `fleet.buckets`."""

    key: str
    words: str
    span_s: int
    chart_width_s: int
    figures_width_s: int


RANGES = {
    each.key: each
    for each in (
        Range("5m", "5 minutes", 5 * MINUTE_S, FINE_S, MINUTE_S),
        Range("15m", "15 minutes", 15 * MINUTE_S, FINE_S, MINUTE_S),
        Range("1h", "hour", HOUR_S, MINUTE_S, MINUTE_S),
        Range("24h", "24 hours", 24 * HOUR_S, TEN_MINUTES_S, HOUR_S),
    )
}
DEFAULT_RANGE = RANGES["15m"]


_TICKS_S = (60, 300, 900, HOUR_S, 3 * HOUR_S, 6 * HOUR_S, DAY_S, 2 * DAY_S, 7 * DAY_S, 30 * DAY_S, 90 * DAY_S)
_MOST_TICKS = 6
_MOST_BUCKETS = 200
_LONGEST_S = 732 * DAY_S
_FIRST_YEAR, _LAST_YEAR = 2000, 2200


@dataclass(frozen=True)
class Preset:
    """A stretch that ends now; `words` follow "the last"."""

    key: str
    words: str
    span_s: int


PRESETS = {
    each.key: each
    for each in (
        Preset("15m", "15 minutes", 15 * MINUTE_S),
        Preset("1h", "hour", HOUR_S),
        Preset("24h", "24 hours", DAY_S),
        Preset("7d", "7 days", 7 * DAY_S),
        Preset("30d", "30 days", 30 * DAY_S),
        Preset("1y", "365 days", 365 * DAY_S),
    )
}
DEFAULT_PRESET = PRESETS["24h"]


@dataclass(frozen=True)
class Stretch:
    """A stretch of time as an address names it: up to now, or two moments (seconds since 1970-01-01 UTC)."""

    preset: Preset | None = DEFAULT_PRESET
    since_s: int = 0
    until_s: int = 0

    def address(self) -> dict[str, str]:
        """The parts of an address that name it; none for the default."""
        if self.preset is None:
            return {"from": written_moment(self.since_s), "to": written_moment(self.until_s)}
        return {} if self.preset == DEFAULT_PRESET else {"range": self.preset.key}


def stretch_between(since: str, until: str, now_s: int) -> Stretch:
    """The stretch between two written moments; an empty `until` is now.

    Raises:
        InputError: one is no moment, they are not in order, or further apart than two years.
    """
    since_s = read_moment("from", since)
    until_s = read_moment("to", until) if until else now_s
    if since_s >= until_s:
        raise InputError(f"from must be before to: {written_moment(since_s)} is not before {written_moment(until_s)}")
    if until_s - since_s > _LONGEST_S:
        raise InputError("from and to may be two years apart at the most")
    return Stretch(None, since_s, until_s)


def stretch_of(values: Mapping[str, str], now_s: int) -> Stretch:
    """The stretch that the parts `range`, or `from` and `to`, of an address name.

    Raises:
        InputError: they name none.
    """
    key, since, until = (values.get(name, "") for name in ("range", "from", "to"))
    if since:
        return stretch_between(since, until, now_s)
    if until:
        raise InputError("to needs a from beside it")
    if key and key not in PRESETS:
        raise InputError(f"range must be one of {', '.join(PRESETS)}, not {key!r}")
    return Stretch(PRESETS[key] if key else DEFAULT_PRESET)


def read_moment(name: str, text: str) -> int:
    """Seconds since 1970-01-01 UTC of `2026-11-23`, `2026-11-23T14:00` or `2026-11-23T14:00:30+08:00`; UTC by default.

    Raises:
        InputError: it is none; the text names `name`.
    """
    try:
        moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    except ValueError:
        moment = None
    if moment is None or not _FIRST_YEAR <= moment.year < _LAST_YEAR:
        raise InputError(f"{name} must be a time like 2026-11-23T14:00Z, not {text[:40]!r}")
    return int((moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp())


def written_moment(unix_s: int) -> str:
    """A moment as an address has it: `2026-11-23T14:00Z`, with seconds only where there are some."""
    written = (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=unix_s)).isoformat(timespec="seconds")
    return written.removesuffix("+00:00").removesuffix(":00") + "Z"


def axis_for(stretch: Stretch, now_s: int, kept_since_s: Mapping[int, int]) -> Axis:
    """Whole buckets that cover `stretch` at `now_s`, in the finest width that is still kept and not too fine to draw.

    `kept_since_s`: the widths in seconds, each with the moment since when its buckets are kept.
    """
    since_s = now_s - stretch.preset.span_s if stretch.preset else stretch.since_s
    until_s = now_s + 1 if stretch.preset else stretch.until_s
    widths = sorted(kept_since_s)
    fits = [each for each in widths if (until_s - since_s) // each <= _MOST_BUCKETS and since_s >= kept_since_s[each]]
    width_s = fits[0] if fits else widths[-1]
    end_s = -(-until_s // width_s) * width_s
    if stretch.preset:
        return Axis(end_s - max(width_s, stretch.preset.span_s), end_s, width_s)
    return Axis(since_s - since_s % width_s, end_s, width_s)


def axis_before(axis: Axis) -> Axis:
    """The stretch of the same length just before."""
    return Axis(axis.since_s - axis.span_s, axis.since_s, axis.width_s)


@dataclass(frozen=True)
class Axis:
    """Time in whole buckets of `width_s`, from `since_s` to before `until_s` (seconds since 1970-01-01 UTC)."""

    since_s: int
    until_s: int
    width_s: int

    @property
    def span_s(self) -> int:
        """From begin to end, in seconds."""
        return self.until_s - self.since_s

    @property
    def starts(self) -> range:
        """The begin of every bucket."""
        return range(self.since_s, self.until_s, self.width_s)

    @property
    def tick_every_s(self) -> int:
        """How far apart the marks are."""
        return next((each for each in _TICKS_S if self.span_s <= each * _MOST_TICKS), _TICKS_S[-1])


def axis_of(shown: Range, since_s: int) -> Axis:
    """The charts' axis of one of the ranges."""
    return Axis(since_s, since_s + shown.span_s, shown.chart_width_s)


def question(shown: Range, now_s: int, *, offline_after_s: int, device_limit: int) -> Question:
    """What to ask the store at `now_s` (seconds since 1970-01-01 UTC). Whole buckets, the running one among them."""
    return Question(
        chart_width_s=shown.chart_width_s,
        chart_since_s=_first_start(now_s, shown.span_s, shown.chart_width_s),
        figures_width_s=shown.figures_width_s,
        figures_since_s=_first_start(now_s, shown.span_s, shown.figures_width_s),
        recent_since_s=_first_start(now_s, RECENT_S, FINE_S),
        seen_since_s=now_s - offline_after_s,
        until_s=now_s + 1,
        device_limit=device_limit,
    )


def _first_start(now_s: int, span_s: int, width_s: int) -> int:
    return now_s - now_s % width_s - span_s + width_s
