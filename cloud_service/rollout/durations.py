"""Durations as people write them."""

from __future__ import annotations

import re

from shared.errors import RolloutError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(\d{1,9})([smhd])", re.ASCII)


def parse_duration(text: str) -> int:
    """Seconds of a duration: 90s, 10m, 2h or 1d.

    Raises:
        RolloutError: it is none.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise RolloutError(f"{text!r} is no duration; write 90s, 10m, 2h or 1d")
    return int(found[1]) * _SECONDS[found[2]]


def duration_words(seconds: int) -> str:
    """The shortest way to write it."""
    for unit, length in reversed(_SECONDS.items()):
        if seconds and seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"
