"""One transfer in blocks: what is still to be asked for, what is under way, what has come. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from edge_agent.update.windows import TransferLimits
from shared.errors import FetchFailed, FileNotThere
from shared.update.blocks import MAX_RANGES, Block

_OVERTAKEN_BY = 3
"""A block that so many later ones have overtaken is taken for lost, as in TCP (RFC 5681)."""


@dataclass(frozen=True)
class Part:
    """A piece of a file that travels in one block; while the file's length is unknown, it may be longer than that."""

    path: str
    offset: int
    length: int


@dataclass
class Flight:
    """A part that was asked for. `number` grows with each; `batch` is that of the request's first part."""

    number: int
    part: Part
    publisher: str
    asked_s: float
    deadline_s: float
    batch: int
    is_repeated: bool
    overtaken: int = 0


class FileInParts:
    """One file: its parts are asked for in order, and come in any."""

    def __init__(self, path: str, most_bytes: int) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._length: int | None = None
        self._asked_until = 0
        self._again: deque[Part] = deque()
        self._arrived: dict[int, bytes] = {}
        self._handed_on = 0
        self._arrived_bytes = 0
        self.held_bytes = 0

    @property
    def is_whole(self) -> bool:
        """Whether all of it has come."""
        return self._arrived_bytes == self._length

    @property
    def is_at_end(self) -> bool:
        """Whether all of it was handed on."""
        return self._handed_on == self._length

    def next_part(self, most_bytes: int) -> tuple[Part, bool] | None:
        """What to ask for next, and whether it was asked for before; None where nothing is to be asked now."""
        if self._again:
            part = self._again.popleft()
            if part.length > most_bytes and self._length is None:
                part, self._asked_until = Part(self._path, part.offset, most_bytes), most_bytes
            elif part.length > most_bytes:
                self._again.appendleft(Part(self._path, part.offset + most_bytes, part.length - most_bytes))
                part = Part(self._path, part.offset, most_bytes)
            return part, True
        if self._length is None:
            if self._asked_until:
                return None
            length = min(most_bytes, max(1, self._most_bytes))
        else:
            length = min(most_bytes, self._length - self._asked_until)
        if length <= 0:
            return None
        part = Part(self._path, self._asked_until, length)
        self._asked_until += length
        return part, False

    def ask_again(self, part: Part) -> None:
        """It did not come."""
        self._again.append(part)

    def take(self, part: Part, block: Block) -> bool:
        """Whether `block` is the part that was asked for.

        Raises:
            FetchFailed: the file is longer than it may be, or has changed meanwhile.
        """
        if block.file_length > self._most_bytes:
            raise FetchFailed(f"{self._path} has {block.file_length} bytes, more than {self._most_bytes}")
        if self._length is not None and block.file_length != self._length:
            raise FetchFailed(f"{self._path} changed while it was fetched")
        if len(block.data) != max(0, min(part.length, block.file_length - part.offset)):
            return False
        if self._length is None:
            self._length = block.file_length
            self._asked_until = len(block.data)
        self._arrived[part.offset] = block.data
        self._arrived_bytes += len(block.data)
        self.held_bytes += len(block.data)
        return True

    def in_order(self) -> bytes | None:
        """The next bytes of the file, where they have come; they are then the caller's."""
        data = self._arrived.pop(self._handed_on, None)
        if data is not None:
            self._handed_on += len(data)
            self.held_bytes -= len(data)
        return data

    def whole(self) -> bytes:
        """All of it, once it `is_whole`."""
        pieces = [self._arrived[offset] for offset in sorted(self._arrived)]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class BlockFetch:
    """The files of one transfer. `failure` is set once it cannot go on."""

    def __init__(self, request_id: str, paths: Iterable[str], most_bytes: int, limits: TransferLimits) -> None:
        self.request_id = request_id
        self.failure: FetchFailed | None = None
        self.useful_bytes = 0
        self.in_flight_bytes = 0
        self._paths = deque(dict.fromkeys(paths))
        self._most_bytes = most_bytes
        self._limits = limits
        self._files: dict[str, FileInParts] = {}
        self._flights: dict[tuple[str, int], Flight] = {}
        self._asked = 0
        self._look_again_s = float("inf")

    @property
    def is_done(self) -> bool:
        """Whether everything was handed on."""
        return not self._files and not self._paths

    @property
    def next_deadline_s(self) -> float:
        """When a part that is under way may be overdue; never too late."""
        return self._look_again_s if self._flights else float("inf")

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._flights

    def ask(
        self, window_room_bytes: int, block_bytes: int, publisher: str, now_s: float, wait_s: Callable[[], float]
    ) -> list[Flight]:
        """Choose parts that fit, and count them as under way; at least one where nothing is under way.

        None are chosen until half of the window has come: a message for each part would cost as much as the part.
        """
        held = sum(file.held_bytes for file in self._files.values())
        room_bytes = min(window_room_bytes, self._limits.window_bytes - held - self.in_flight_bytes)
        if self._flights and room_bytes < max(block_bytes, self.in_flight_bytes):
            return []
        batch = self._asked + 1
        asked: list[Flight] = []
        for part, is_repeated in self._parts(block_bytes):
            self._asked += 1
            flight = Flight(self._asked, part, publisher, now_s, now_s + wait_s(), batch, is_repeated)
            self._flights[part.path, part.offset] = flight
            asked.append(flight)
            self._look_again_s = min(self._look_again_s, flight.deadline_s)
            self.in_flight_bytes += part.length
            room_bytes -= part.length
            if room_bytes < block_bytes or len(asked) == MAX_RANGES:
                break
        return asked

    def land(self, block: Block) -> Flight | None:
        """Take a block in. Returns: what was asked for; None for a stranger, a duplicate, or what was not asked for.

        Data may come late from a publisher that was given up; its refusals no longer count.
        """
        flight = self._flights.get((block.path, block.offset))
        if flight is None or ((block.is_missing or block.retry_after_ms) and block.publisher != flight.publisher):
            return None
        if block.is_missing:
            self.failure = FileNotThere(f"the repository has no {block.path}")
            return flight
        if block.retry_after_ms:
            self.recall(lambda other: other.batch == flight.batch)
            return flight
        file = self._files[block.path]
        try:
            if not file.take(flight.part, block):
                return None
        except FetchFailed as error:
            self.failure = error
            return flight
        self.useful_bytes += len(block.data)
        self._forget(flight)
        return flight

    def overtaken(self, by: Flight) -> bool:
        """Ask again for what later parts have overtaken. Returns: whether there was any."""
        found = False
        for flight in list(self._earlier(by)):
            flight.overtaken += 1
            if flight.overtaken >= _OVERTAKEN_BY:
                self._ask_again(flight)
                found = True
        return found

    def overdue(self, now_s: float) -> list[Flight]:
        """Ask again for what should have come by now."""
        if now_s < self._look_again_s:
            return []
        late = [flight for flight in self._flights.values() if flight.deadline_s <= now_s]
        for flight in late:
            self._ask_again(flight)
        self._look_again_s = min((flight.deadline_s for flight in self._flights.values()), default=float("inf"))
        return late

    def recall(self, which: Callable[[Flight], bool]) -> None:
        """Ask again for what cannot come any more."""
        for flight in [each for each in self._flights.values() if which(each)]:
            self._ask_again(flight)

    def in_order(self) -> Iterator[bytes]:
        """What can be handed on of a transfer of one file."""
        if self._paths:
            return
        for path, file in list(self._files.items()):
            while (data := file.in_order()) is not None:
                if data:
                    yield data
                if file.is_at_end:
                    del self._files[path]
                    break

    def whole_files(self) -> Iterator[tuple[str, bytes]]:
        """The files that have come as a whole; they are handed on once."""
        for path in [path for path, file in self._files.items() if file.is_whole]:
            yield path, self._files.pop(path).whole()

    def _parts(self, block_bytes: int) -> Iterator[tuple[Part, bool]]:
        """Files that were begun come first, so that few are held in pieces."""
        while True:
            for file in self._files.values():
                while (part := file.next_part(block_bytes)) is not None:
                    yield part
            if not self._paths:
                return
            path = self._paths.popleft()
            self._files[path] = FileInParts(path, self._most_bytes)

    def _earlier(self, than: Flight) -> Iterator[Flight]:
        for flight in self._flights.values():
            if flight.number >= than.number:
                return
            if flight.publisher == than.publisher:
                yield flight

    def _ask_again(self, flight: Flight) -> None:
        self._forget(flight)
        self._files[flight.part.path].ask_again(flight.part)

    def _forget(self, flight: Flight) -> None:
        del self._flights[flight.part.path, flight.part.offset]
        self.in_flight_bytes -= flight.part.length
