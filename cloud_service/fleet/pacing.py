"""How much a commit books, so that booking takes a set share of the time however much is said. Pure."""

from __future__ import annotations

_SHARE = 0.15
_FEWEST = 100
_REMEMBERED = 0.8
"""What earlier commits weigh in the next one's measure of a message: five commits back it is a third."""


class Pace:
    """Learns from each commit what a message costs; a commit every `interval_s` seconds then takes `_SHARE` of them."""

    def __init__(self, interval_s: float) -> None:
        self._budget_s = _SHARE * interval_s
        self._spent_s = 0.0
        self._booked = 0.0

    @property
    def allowance(self) -> int:
        """How many messages the next commit may book; never so few that it comes to a standstill."""
        if not self._spent_s:
            return _FEWEST
        return max(_FEWEST, int(self._budget_s * self._booked / self._spent_s))

    def note(self, booked: int, spent_s: float) -> None:
        """A commit booked so many messages and took `spent_s` seconds of CPU time, or of whatever is to be shared."""
        self._booked = _REMEMBERED * self._booked + booked
        self._spent_s = _REMEMBERED * self._spent_s + spent_s
