"""How numbers and moments are written on the page. Pure."""

from __future__ import annotations

from datetime import datetime, timezone

NO_VALUE = "–"


def count(value: int) -> str:
    """1204 as `1,204`."""
    return f"{value:,}".replace("-", "−")


def signed_count(value: int) -> str:
    """A change: `+3`, `−2`, `0`."""
    return f"+{value:,}" if value > 0 else count(value)


def percent(ratio: float | None) -> str:
    """A ratio in [0, 1] as `11.0%`; tiny but not zero as `<0.1%`, not quite all as `>99.9%`."""
    if ratio is None:
        return NO_VALUE
    if 0 < ratio < 0.001:
        return "<0.1%"
    if 0.999 < ratio < 1:
        return ">99.9%"
    return f"{ratio * 100:.1f}%"


def milliseconds(value: float | None) -> str:
    """Three digits or so with the unit: `0.84 ms`, `12.3 ms`, `840 ms`, `2.1 s`."""
    if value is None:
        return NO_VALUE
    if value >= 1000:
        return f"{value / 1000:.1f} s"
    digits = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f} ms"


def percentage_points(difference: float) -> str:
    """A difference of two ratios: `+1.2 pp`, `−0.3 pp`; what is less than a tenth as `+0.02 pp`."""
    points = difference * 100
    digits = 1 if abs(points) >= 0.1 or points == 0 else 2
    return f"{points:+.{digits}f} pp".replace("-", "−")


def day_of(unix_s: int) -> str:
    """UTC, as on an axis of days."""
    return datetime.fromtimestamp(unix_s, timezone.utc).strftime("%m-%d")


def utc_field(unix_s: int) -> str:
    """UTC, as a form's field for a moment has it: `2026-11-23T14:03`."""
    return datetime.fromtimestamp(unix_s, timezone.utc).strftime("%Y-%m-%dT%H:%M")


def duration(seconds: int) -> str:
    """`45 s`, `12 min`, `3 h`, `2 days`."""
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{max(0, seconds)} s"


def moment(unix_s: int, now_s: int) -> str:
    """UTC: the time of day, with the date where it is not today's."""
    then, today = (datetime.fromtimestamp(each, timezone.utc) for each in (unix_s, now_s))
    return then.strftime("%H:%M:%S" if then.date() == today.date() else "%Y-%m-%d %H:%M:%S")


def hour_and_minute(unix_s: int) -> str:
    """UTC, as on an axis."""
    return datetime.fromtimestamp(unix_s, timezone.utc).strftime("%H:%M")


def iso(unix_s: int) -> str:
    """For machines: `2026-11-23T14:03:22Z`."""
    return datetime.fromtimestamp(unix_s, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def bucket_words(width_s: int) -> str:
    """A bucket's width after "each": `10 seconds`, `minute`, `10 minutes`."""
    if width_s < 60:
        return f"{width_s} seconds"
    if width_s in (3600, 86_400):
        return "hour" if width_s == 3600 else "day"
    minutes = width_s // 60
    return "minute" if minutes == 1 else f"{minutes} minutes"
