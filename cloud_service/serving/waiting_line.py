"""Which requests the engine takes next. Rules alone: time comes in."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from shared.types import Priority

T = TypeVar("T")

HANDICAP_S: dict[Priority, float] = {Priority.INTERACTIVE: 0.0, Priority.AUDIT: 1.0, Priority.REPLAY: 5.0}
"""A request waits as if it had come that much later (seconds), so that less urgent ones yield and none starves."""

MOST_OVERTAKEN = 2
"""So many batches may take later requests of a better length before one; then its turn comes whatever its length."""

_CANDIDATES_PER_PLACE = 4
_LIKE_RATIO = 2
_LIKE_TOKENS = 8


@dataclass(eq=False)
class Waiting(Generic[T]):
    """One request in the line.

    `length` is its tokens; times are monotonic seconds; `number` breaks ties; `overtaken` counts the batches that
    took a later request before it.
    """

    item: T
    length: int
    priority: Priority
    entered_s: float
    deadline_s: float
    number: int
    overtaken: int = 0

    def __post_init__(self) -> None:
        self.rank = (self.entered_s + HANDICAP_S[self.priority], self.number)
        """Smaller is sooner."""


@dataclass(frozen=True)
class Selection(Generic[T]):
    """What to compute now, and what fell out of the line because its deadline had passed."""

    batch: tuple[Waiting[T], ...]
    expired: tuple[Waiting[T], ...]


class WaitingLine(Generic[T]):
    """Requests in order of rank. Bounds are the caller's."""

    def __init__(self) -> None:
        self._line: list[Waiting[T]] = []
        self._numbers = 0

    def __len__(self) -> int:
        return len(self._line)

    def enter(self, item: T, length: int, priority: Priority, now_s: float, deadline_s: float) -> Waiting[T]:
        """Add a request."""
        self._numbers += 1
        waiting = Waiting(item, length, priority, now_s, deadline_s, self._numbers)
        insort(self._line, waiting, key=_rank)
        return waiting

    def leave(self, waiting: Waiting[T]) -> bool:
        """Take a request out again; False where it is no longer in the line."""
        place = bisect_left(self._line, waiting.rank, key=_rank)
        if place < len(self._line) and self._line[place] is waiting:
            del self._line[place]
            return True
        return False

    def select(self, now_s: float, most: int) -> Selection[T]:
        """Take out the next batch of at most `most`: the head, and companions of like length.

        Companions come from the first few places a batch, best fit first: a batch costs what its longest member
        costs, times its size. The head is always taken, and nobody is overtaken more than `MOST_OVERTAKEN` times.
        """
        expired = self._take(lambda waiting: waiting.deadline_s <= now_s)
        if not self._line:
            return Selection((), expired)
        head, near = self._line[0], self._line[1 : most * _CANDIDATES_PER_PLACE]
        batch = (head, *_companions(head, near, most - 1))
        taken = {waiting.number for waiting in batch}
        last = max(waiting.rank for waiting in batch)
        for waiting in near:
            waiting.overtaken += waiting.number not in taken and waiting.rank < last
        self._take(lambda waiting: waiting.number in taken)
        return Selection(batch, expired)

    def clear(self) -> tuple[Waiting[T], ...]:
        """Take everybody out."""
        return self._take(lambda waiting: True)

    def _take(self, condition: Callable[[Waiting[T]], bool]) -> tuple[Waiting[T], ...]:
        taken = tuple(waiting for waiting in self._line if condition(waiting))
        if taken:
            self._line = [waiting for waiting in self._line if not condition(waiting)]
        return taken


def _companions(head: Waiting[T], near: Sequence[Waiting[T]], places: int) -> list[Waiting[T]]:
    owed = [waiting for waiting in near if waiting.overtaken >= MOST_OVERTAKEN]
    alike = [waiting for waiting in near if waiting.overtaken < MOST_OVERTAKEN and _are_alike(head, waiting)]
    alike.sort(key=lambda waiting: (abs(waiting.length - head.length), waiting.rank))
    return (owed + alike)[:places]


def _are_alike(one: Waiting[T], other: Waiting[T]) -> bool:
    shorter, longer = sorted((one.length, other.length))
    return longer <= _LIKE_RATIO * shorter + _LIKE_TOKENS


def _rank(waiting: Waiting[T]) -> tuple[float, int]:
    return waiting.rank
