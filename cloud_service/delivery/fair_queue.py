"""What devices wait for, whose turn it is, and how fast they may be served. Pure: time comes in.

Start-time fair queueing (Goyal, Vin and Cheng, 1996): the device that has been sent the fewest bytes comes next, so
that neither large blocks nor many requests get one device more than another.
"""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict
from dataclasses import dataclass, field

from shared.update.blocks import BlockRange, BlockRequest

_MESSAGE_COST_BYTES = 512
"""What a message costs beside its data, so that a device which asks for single bytes is bounded too."""
_BURST_S = 0.5
_MOST_IDLE_DEVICES = 10_000
_LEAST_RETRY_S, _MOST_RETRY_S = 0.5, 30.0


@dataclass(frozen=True)
class DeliveryLimits:
    """Rates in bytes a second; `waiting_ranges` in all, `device_waiting_ranges` of one device.

    No block is longer than `block_bytes`.
    """

    total_bytes_s: float
    device_bytes_s: float
    block_bytes: int
    waiting_ranges: int
    device_waiting_ranges: int


@dataclass(frozen=True)
class Piece:
    """A block to send. `end`: of the range that it is the first piece of; None for the file's end."""

    device_id: str
    request_id: str
    path: str
    offset: int
    length: int
    block_bytes: int
    end: int | None


class Bucket:
    """Tokens of `bytes_s`. What is taken may be more than there is: the debt is waited for after."""

    def __init__(self, bytes_s: float, now_s: float) -> None:
        self._bytes_s = bytes_s
        self._full = bytes_s * _BURST_S
        self._tokens = self._full
        self._at_s = now_s

    def take(self, length: float, now_s: float) -> None:
        """Take out so many; less than 0 gives back."""
        self._fill(now_s)
        self._tokens = min(self._full, self._tokens - length)

    def wait_s(self, now_s: float) -> float:
        """Seconds until something may be taken."""
        self._fill(now_s)
        return max(0.0, (1.0 - self._tokens) / self._bytes_s)

    def _fill(self, now_s: float) -> None:
        self._tokens = min(self._full, self._tokens + max(0.0, now_s - self._at_s) * self._bytes_s)
        self._at_s = max(now_s, self._at_s)


@dataclass
class _Device:
    name: str
    bucket: Bucket
    served_bytes: float = 0.0
    is_queued: bool = False
    waiting: OrderedDict[tuple[str, int, int | None], Piece] = field(default_factory=OrderedDict)


class FairQueue:
    """Bounded; see `DeliveryLimits`."""

    def __init__(self, limits: DeliveryLimits, now_s: float) -> None:
        self._limits = limits
        self._total = Bucket(limits.total_bytes_s, now_s)
        self._devices: OrderedDict[str, _Device] = OrderedDict()
        self._ready: list[tuple[float, int, _Device]] = []
        self._resting: list[tuple[float, int, _Device]] = []
        self._ties = itertools.count()
        self._served_bytes = 0.0
        self._waiting = 0

    def __len__(self) -> int:
        """How many ranges wait."""
        return self._waiting

    def add(self, device_id: str, request: BlockRequest, now_s: float) -> float:
        """Take a request in as a whole, or not at all. Returns: 0, or in how many seconds to ask again.

        What waits already, as it was asked for before, keeps its place and takes the new request's id.
        """
        device = self._device(device_id, now_s)
        pieces = {(piece.path, piece.offset, piece.end): piece for piece in self._pieces(device_id, request)}
        new = sum(place not in device.waiting for place in pieces)
        if len(device.waiting) + new > self._limits.device_waiting_ranges:
            return self._retry_s(len(device.waiting) / self._limits.device_bytes_s)
        if self._waiting + new > self._limits.waiting_ranges:
            return self._retry_s(self._waiting / self._limits.total_bytes_s)
        device.waiting.update(pieces)
        self._waiting += new
        self._queue(device)
        return 0.0

    def take(self, now_s: float) -> Piece | None:
        """The next piece to send now, if any; `settle` it once its bytes are known."""
        while self._resting and self._resting[0][0] <= now_s:
            _, _, device = heapq.heappop(self._resting)
            self._push(device)
        while self._ready and self._total.wait_s(now_s) == 0:
            served_bytes, tie, device = heapq.heappop(self._ready)
            if not device.waiting:
                device.is_queued = False
                self._forget_idle()
            elif (wait_s := device.bucket.wait_s(now_s)) > 0:
                heapq.heappush(self._resting, (now_s + wait_s, tie, device))
            else:
                self._served_bytes = max(self._served_bytes, served_bytes)
                return self._pop(device, now_s)
        return None

    def settle(self, piece: Piece, sent_bytes: int, file_length: int, now_s: float) -> None:
        """The piece was read: what was not needed is given back, and the rest of its range waits in front."""
        device = self._device(piece.device_id, now_s)
        spare = piece.length - sent_bytes
        device.served_bytes -= spare
        device.bucket.take(-spare, now_s)
        self._total.take(-spare, now_s)
        end = file_length if piece.end is None else min(piece.end, file_length)
        begin = piece.offset + sent_bytes
        if not sent_bytes or begin >= end:
            return
        length = min(piece.block_bytes, end - begin)
        rest = Piece(piece.device_id, piece.request_id, piece.path, begin, length, piece.block_bytes, piece.end)
        place = (rest.path, rest.offset, rest.end)
        self._waiting += place not in device.waiting
        device.waiting[place] = rest
        device.waiting.move_to_end(place, last=False)
        self._queue(device)

    def wait_s(self, now_s: float) -> float:
        """Seconds until `take` may have something, if nothing is added before; infinity when nothing waits."""
        first_s = 0.0 if self._ready else self._resting[0][0] - now_s if self._resting else float("inf")
        return max(0.0, first_s, self._total.wait_s(now_s))

    def _pieces(self, device_id: str, request: BlockRequest) -> list[Piece]:
        most = min(request.block_bytes, self._limits.block_bytes)
        return [_piece(device_id, request.request_id, wanted, most) for wanted in request.ranges]

    def _pop(self, device: _Device, now_s: float) -> Piece:
        _, piece = device.waiting.popitem(last=False)
        self._waiting -= 1
        cost = piece.length + _MESSAGE_COST_BYTES
        device.served_bytes += cost
        device.bucket.take(cost, now_s)
        self._total.take(cost, now_s)
        self._push(device)
        return piece

    def _queue(self, device: _Device) -> None:
        if not device.is_queued:
            device.is_queued = True
            device.served_bytes = max(device.served_bytes, self._served_bytes)
            self._push(device)

    def _push(self, device: _Device) -> None:
        heapq.heappush(self._ready, (device.served_bytes, next(self._ties), device))

    def _device(self, device_id: str, now_s: float) -> _Device:
        if device_id not in self._devices:
            self._forget_idle()
            self._devices[device_id] = _Device(device_id, Bucket(self._limits.device_bytes_s, now_s))
        self._devices.move_to_end(device_id)
        return self._devices[device_id]

    def _forget_idle(self) -> None:
        """Whoever asked longest ago is the one whose bucket is most likely full again."""
        for _ in range(2):
            if len(self._devices) <= _MOST_IDLE_DEVICES:
                return
            name, device = next(iter(self._devices.items()))
            if device.is_queued:
                self._devices.move_to_end(name)
            else:
                del self._devices[name]

    def _retry_s(self, ranges_by_rate: float) -> float:
        return min(_MOST_RETRY_S, max(_LEAST_RETRY_S, ranges_by_rate * self._limits.block_bytes))


def _piece(device_id: str, request_id: str, wanted: BlockRange, most: int) -> Piece:
    end = wanted.offset + wanted.length if wanted.length else None
    length = min(most, wanted.length or most)
    return Piece(device_id, request_id, wanted.path, wanted.offset, length, most, end)
