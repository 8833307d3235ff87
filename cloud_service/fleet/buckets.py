"""How time is cut for counting. Pure.

Every increase is booked into one bucket of each width, by the server's clock at its arrival. Width 0 is the one
bucket of all time, which is never pruned.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from shared.types import DEFAULT_RING

ALL_TIME_S = 0
MINUTE_S = 60
TEN_MINUTES_S = 600
HOUR_S = 3600
DAY_S = 24 * HOUR_S
FINE_S = 10
WHOLE_FLEET = ""
"""Stands in a device's place where all devices are counted together."""

FLEET_WIDTHS_S = (ALL_TIME_S, FINE_S, MINUTE_S, TEN_MINUTES_S, HOUR_S, DAY_S)
DEVICE_WIDTHS_S = (MINUTE_S, HOUR_S, DAY_S)


@dataclass(frozen=True)
class Bucket:
    """`width_s` seconds from `starts_s` (seconds since 1970-01-01 UTC) on."""

    width_s: int
    starts_s: int


@dataclass(frozen=True)
class CountKey:
    """Whose counts, in which bucket."""

    bucket: Bucket
    device_id: str
    model: str
    model_version: str
    variant: str
    ring: str = DEFAULT_RING


@dataclass(frozen=True)
class Retention:
    """How long buckets are kept, in seconds, from their start on. `minutes_s` holds for ten minutes too."""

    fine_s: int = HOUR_S
    minutes_s: int = 2 * DAY_S
    hours_s: int = 30 * DAY_S
    days_s: int = 730 * DAY_S

    def kept_since(self, now_s: int) -> dict[int, int]:
        """By width: buckets that start before this second are pruned. All time is kept for ever."""
        return {
            FINE_S: now_s - self.fine_s,
            MINUTE_S: now_s - self.minutes_s,
            TEN_MINUTES_S: now_s - self.minutes_s,
            HOUR_S: now_s - self.hours_s,
            DAY_S: now_s - self.days_s,
        }


def bucket_at(width_s: int, now_s: int) -> Bucket:
    """The bucket of this width that holds the moment `now_s`."""
    return Bucket(width_s, now_s - now_s % width_s if width_s else 0)


def buckets_at(now_s: int) -> frozenset[Bucket]:
    """Every bucket that an increase heard at `now_s` is booked into."""
    return frozenset(bucket_at(width_s, now_s) for width_s in FLEET_WIDTHS_S)


@dataclass(frozen=True)
class Share:
    """What is counted together for the whole fleet."""

    model: str
    model_version: str
    variant: str
    ring: str = DEFAULT_RING

    def keys(self, owner: str, widths_s: Iterable[int], now_s: int) -> Iterator[CountKey]:
        """Where an increase of `owner`, a device or `WHOLE_FLEET`, is booked at `now_s`."""
        for width_s in widths_s:
            yield CountKey(bucket_at(width_s, now_s), owner, self.model, self.model_version, self.variant, self.ring)
