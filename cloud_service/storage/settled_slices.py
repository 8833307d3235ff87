"""What days and hours that have ended come to, kept in memory: nothing more is booked into them, so it stays exact."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from threading import Lock
from typing import Generic, TypeVar

from cloud_service.dashboard.offload_address import Filter
from cloud_service.dashboard.offload_question import Slice
from cloud_service.dashboard.ranges import Axis
from cloud_service.fleet.buckets import DAY_S, HOUR_S

_SETTLED_AFTER_S = HOUR_S
_MOST_SLICES = 256
_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


def settled_part(axis: Axis, written_s: int) -> Axis:
    """The buckets of `axis` that ended an hour or more before the fleet service last wrote; none of finer ones.

    What it booked before it wrote is in the store. The hour is for messages that were still waiting to be booked.
    """
    ended_s = written_s - _SETTLED_AFTER_S
    until_s = ended_s - ended_s % axis.width_s if axis.width_s in (HOUR_S, DAY_S) else axis.since_s
    return Axis(axis.since_s, min(max(until_s, axis.since_s), axis.until_s), axis.width_s)


class Remembered(Generic[_Key, _Value]):
    """What was asked for last, as much as has a `size` of at most `most` together. Used by several threads."""

    def __init__(self, most: int, size: Callable[[_Value], int] = lambda value: 1) -> None:
        self._most = most
        self._size = size
        self._kept: OrderedDict[_Key, _Value] = OrderedDict()
        self._kept_size = 0
        self._lock = Lock()

    def get(self, key: _Key) -> _Value | None:
        """What is there under this key."""
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key]

    def put(self, key: _Key, value: _Value) -> None:
        """Add it; what was asked for least lately goes, even this where it alone is too large."""
        with self._lock:
            before = self._kept.pop(key, None)
            self._kept_size += self._size(value) - (0 if before is None else self._size(before))
            self._kept[key] = value
            while self._kept_size > self._most:
                _, gone = self._kept.popitem(last=False)
                self._kept_size -= self._size(gone)


class SettledSlices:
    """The slices of devices that were asked for last, at most `most`. Used by several threads."""

    def __init__(self, most: int = _MOST_SLICES) -> None:
        self._slices: Remembered[tuple[Axis, Filter, str], Slice] = Remembered(most)

    def known(self, axis: Axis, wanted: Filter, devices: Iterable[str]) -> dict[str, Slice]:
        """Those of `devices` that are there."""
        found = {device_id: self._slices.get((axis, wanted, device_id)) for device_id in devices}
        return {device_id: each for device_id, each in found.items() if each is not None}

    def keep(self, axis: Axis, wanted: Filter, slices: Sequence[Slice]) -> None:
        """Add what was read of a settled `axis`; what was asked for least lately goes."""
        for each in slices:
            self._slices.put((axis, wanted, each.value), each)
