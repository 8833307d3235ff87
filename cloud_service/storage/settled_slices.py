"""Slices over days that have ended, kept in memory: nothing more is booked into them, so they stay exact."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from threading import Lock

from cloud_service.dashboard.offload_address import Filter
from cloud_service.dashboard.offload_question import Slice
from cloud_service.dashboard.ranges import Axis
from cloud_service.fleet.buckets import DAY_S, HOUR_S

_SETTLED_AFTER_S = HOUR_S
_MOST_SLICES = 256


def settled_part(axis: Axis, written_s: int) -> Axis:
    """The days of `axis` that ended an hour or more before the fleet service last wrote; empty for finer buckets.

    What it booked before it wrote is in the store. The hour is for messages that were still waiting to be booked.
    """
    ended_s = written_s - _SETTLED_AFTER_S
    until_s = ended_s - ended_s % DAY_S if axis.width_s == DAY_S else axis.since_s
    return Axis(axis.since_s, min(max(until_s, axis.since_s), axis.until_s), axis.width_s)


class SettledSlices:
    """The slices of devices that were asked for last, at most `most`. Used by several threads."""

    def __init__(self, most: int = _MOST_SLICES) -> None:
        self._most = most
        self._slices: OrderedDict[tuple[Axis, Filter, str], Slice] = OrderedDict()
        self._lock = Lock()

    def known(self, axis: Axis, wanted: Filter, devices: Iterable[str]) -> dict[str, Slice]:
        """Those of `devices` that are there."""
        found = {}
        with self._lock:
            for device_id in devices:
                key = (axis, wanted, device_id)
                if key in self._slices:
                    self._slices.move_to_end(key)
                    found[device_id] = self._slices[key]
        return found

    def keep(self, axis: Axis, wanted: Filter, slices: Sequence[Slice]) -> None:
        """Add what was read of a settled `axis`; what was asked for least lately goes."""
        with self._lock:
            for each in slices:
                self._slices[(axis, wanted, each.value)] = each
            while len(self._slices) > self._most:
                self._slices.popitem(last=False)
