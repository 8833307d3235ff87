"""The stretches of time that the page can show. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from cloud_service.fleet.buckets import FINE_S, HOUR_S, MINUTE_S, TEN_MINUTES_S
from cloud_service.fleet.reading import Question

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
        Range("1h", "hour", HOUR_S, MINUTE_S, TEN_MINUTES_S),
        Range("24h", "24 hours", 24 * HOUR_S, TEN_MINUTES_S, HOUR_S),
    )
}
DEFAULT_RANGE = RANGES["15m"]


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
