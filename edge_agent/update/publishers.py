"""Who serves blocks, and whom to ask next. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shared.update.blocks import PublisherPresence

_MOST_KNOWN = 64
_SILENT_FOR_S = 30.0
_SLACK_RANGES = 64
"""Two publishers whose loads differ by less are equally good: to change costs the blocks that are under way."""


@dataclass
class _Known:
    presence: PublisherPresence
    silent_until_s: float = float("-inf")
    busy_until_s: float = float("-inf")
    heard_s: float = float("-inf")


class Publishers:
    """The publishers that say they are there. Fewest waiting is asked first; who is silent or busy is left out."""

    def __init__(self, uniform: Callable[[], float]) -> None:
        """`uniform` gives numbers in [0, 1): devices that hear the same do not all choose the same."""
        self._uniform = uniform
        self._known: dict[str, _Known] = {}
        self._current = ""

    def hear(self, presence: PublisherPresence) -> None:
        """What a publisher says of itself; word that it is there ends its silence."""
        if not presence.online:
            self._known.pop(presence.publisher, None)
        elif presence.publisher in self._known:
            known = self._known[presence.publisher]
            known.presence, known.silent_until_s = presence, float("-inf")
        elif len(self._known) < _MOST_KNOWN:
            self._known[presence.publisher] = _Known(presence)

    def is_silent(self, name: str, now_s: float) -> bool:
        """Whether it was asked and did not answer, lately."""
        return name in self._known and self._known[name].silent_until_s > now_s

    def answers(self, name: str, now_s: float) -> None:
        """A block came from it."""
        if name in self._known:
            self._known[name].silent_until_s, self._known[name].heard_s = float("-inf"), now_s

    def heard_s(self, name: str) -> float:
        """When the last block came from it."""
        return self._known[name].heard_s if name in self._known else float("-inf")

    def is_mute(self, name: str, now_s: float) -> None:
        """It was asked, and nothing came."""
        if name in self._known:
            self._known[name].silent_until_s = now_s + _SILENT_FOR_S

    def is_busy(self, name: str, until_s: float) -> None:
        """It asked to be left alone until then."""
        if name in self._known:
            self._known[name].busy_until_s = until_s

    def choose(self, now_s: float) -> PublisherPresence | None:
        """Whom to ask now; a silent one where there is no other. None when nobody is there, or all are busy."""
        free = [known for known in self._known.values() if known.busy_until_s <= now_s]
        heard = [known.presence for known in free if known.silent_until_s <= now_s]
        candidates = heard or [known.presence for known in free]
        if not candidates:
            return None
        best = min(candidates, key=lambda each: (each.ranges_waiting, self._uniform()))
        current = next((each for each in candidates if each.publisher == self._current), None)
        if current is None or current.ranges_waiting > 2 * best.ranges_waiting + _SLACK_RANGES:
            current = best
        self._current = current.publisher
        return current

    def next_free_s(self) -> float:
        """When the first of those that are busy can be asked again; infinity when nobody is there."""
        return min((known.busy_until_s for known in self._known.values()), default=float("inf"))
