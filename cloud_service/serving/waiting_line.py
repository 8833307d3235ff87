"""Which requests the engine takes next. Rules alone: time comes in."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from shared.types import Priority

T = TypeVar("T")

HANDICAP_S: dict[Priority, float] = {Priority.INTERACTIVE: 0.0, Priority.AUDIT: 1.0, Priority.REPLAY: 5.0}
"""A request waits as if it had come that much later (seconds), so that less urgent ones yield and none starves."""

_CANDIDATES_PER_PLACE = 4


@dataclass(frozen=True)
class Waiting(Generic[T]):
    """One request in the line. `length` is its tokens; times are monotonic seconds; `number` breaks ties."""

    item: T
    length: int
    priority: Priority
    entered_s: float
    deadline_s: float
    number: int

    @property
    def rank(self) -> tuple[float, int]:
        """Smaller is sooner."""
        return self.entered_s + HANDICAP_S[self.priority], self.number


def _rank(waiting: Waiting[T]) -> tuple[float, int]:
    return waiting.rank


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
        """Take a request out again; False where it has already been selected."""
        place = bisect_left(self._line, waiting.rank, key=_rank)
        if place < len(self._line) and self._line[place] is waiting:
            del self._line[place]
            return True
        return False

    def select(self, now_s: float, most: int) -> Selection[T]:
        """Take out the next batch of at most `most`: the head, and those near it whose length is most alike.

        Companions come from the first few places a batch, so that likeness never delays anyone for long; the
        head is always taken.
        """
        expired = self._take(lambda waiting: waiting.deadline_s <= now_s)
        if not self._line:
            return Selection((), expired)
        head = self._line[0]
        near = self._line[1 : most * _CANDIDATES_PER_PLACE]
        if len(near) >= most:
            near = sorted(near, key=lambda waiting: (abs(waiting.length - head.length), waiting.rank))[: most - 1]
        batch = (head, *near)
        taken = {waiting.number for waiting in batch}
        self._take(lambda waiting: waiting.number in taken)
        return Selection(batch, expired)

    def _take(self, condition: Callable[[Waiting[T]], bool]) -> tuple[Waiting[T], ...]:
        taken = tuple(waiting for waiting in self._line if condition(waiting))
        if taken:
            self._line = [waiting for waiting in self._line if not condition(waiting)]
        return taken
