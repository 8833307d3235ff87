"""What days and hours that have ended come to, kept in memory: nothing more is booked into them, so it stays exact."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cloud_service.dashboard.offload_address import Filter
from cloud_service.dashboard.offload_question import Slice
from cloud_service.dashboard.ranges import Axis
from cloud_service.fleet.buckets import DAY_S, HOUR_S
from cloud_service.lru_cache import LruCache

_SETTLED_AFTER_S = HOUR_S
_MOST_SLICES = 256


def settled_part(axis: Axis, written_s: int) -> Axis:
    """The buckets of `axis` that ended an hour or more before the fleet service last wrote; none of finer ones.

    What it booked before it wrote is in the store. The hour is for messages that were still waiting to be booked.
    """
    ended_s = written_s - _SETTLED_AFTER_S
    until_s = ended_s - ended_s % axis.width_s if axis.width_s in (HOUR_S, DAY_S) else axis.since_s
    return Axis(axis.since_s, min(max(until_s, axis.since_s), axis.until_s), axis.width_s)


class SettledSlices:
    """The slices of devices that were asked for last, at most `most`. Used by several threads."""

    def __init__(self, most: int = _MOST_SLICES) -> None:
        self._slices: LruCache[tuple[Axis, Filter, str], Slice] = LruCache(most)

    def known(self, axis: Axis, wanted: Filter, devices: Iterable[str]) -> dict[str, Slice]:
        """Those of `devices` that are there."""
        found = {device_id: self._slices.get((axis, wanted, device_id)) for device_id in devices}
        return {device_id: each for device_id, each in found.items() if each is not None}

    def keep(self, axis: Axis, wanted: Filter, slices: Sequence[Slice]) -> None:
        """Add what was read of a settled `axis`; what was asked for least lately goes."""
        for each in slices:
            self._slices.put((axis, wanted, each.value), each)
