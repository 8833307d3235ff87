"""Where the words of a device's series lie, in its file and at the broker. Rules alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edge_agent.accounting import Series
from shared.topics import LAST_WORD_SLOTS


class WordPlaces:
    """Numbers each model's series in the order in which they began to count; the number's rest is the broker's slot.

    Two series that take turns, as a trial and its rollback do, keep their numbers, so that they push no earlier
    boot's last word out.
    """

    def __init__(self, newest: Mapping[str, int]) -> None:
        """`newest`: each model's highest number so far, of earlier boots."""
        self._newest = dict(newest)
        self._places: dict[Series, int] = {}

    def place(self, series: Series) -> int | None:
        """The series' number; None where it has not counted yet."""
        return self._places.get(series)

    def begin(self, series: Series) -> tuple[int, int | None]:
        """The series counts from now on, or again: its number, and the one that it leaves, if any."""
        newest, before = self._newest.get(series.model, 0), self._places.get(series)
        if before is not None and before >= newest - 1:
            return before, None
        self._newest[series.model] = self._places[series] = newest + 1
        return newest + 1, before

    def repeated(self, ended: Iterable[Series]) -> dict[Series, int]:
        """Which of the `ended` series have a slot at the broker, from series to slot; of one slot the newest."""
        numbered = sorted((place, series) for series in ended if (place := self._places.get(series)) is not None)
        in_time = [each for each in numbered if each[0] > self._newest[each[1].model] - LAST_WORD_SLOTS - 1]
        newest = {(series.model, place % LAST_WORD_SLOTS): series for place, series in in_time}
        return {series: slot for (_, slot), series in newest.items()}
