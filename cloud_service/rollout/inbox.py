"""Devices' reports that have been heard and not yet written: checked, and only the newest of each kept. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from shared import topics
from shared.errors import MessageError
from shared.mqtt import Message
from shared.update.codec import decode_report
from shared.update.report import UpdateReport

Key = tuple[str, str]
"""Device and model."""


@dataclass(frozen=True)
class Heard:
    """A report and when it was heard (server's clock, seconds since 1970-01-01 UTC)."""

    report: UpdateReport
    heard_s: int


@dataclass(frozen=True)
class InboxStatistics:
    """Counts since the start. `dropped` by reason."""

    received: int
    dropped: dict[str, int]
    waiting: int


class ReportInbox:
    """Holds at most `capacity` reports; the caller waits while it `is_full`."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._heard: dict[Key, Heard] = {}
        self._received = 0
        self._dropped: Counter[str] = Counter()

    @property
    def is_full(self) -> bool:
        """Whether no further message may be taken in before a `drain`."""
        return len(self._heard) >= self._capacity

    def take_in(self, message: Message, now_s: int) -> None:
        """Keep `message`; what is malformed or spoken for another device or model is dropped and counted."""
        self._received += 1
        if not message.payload:
            self._dropped["empty"] += 1
            return
        try:
            topic, report = topics.parse(message.topic), decode_report(message.payload)
        except MessageError:
            self._dropped["malformed"] += 1
            return
        if topic.kind != "reported" or (report.device_id, report.model) != (topic.device_id, topic.model):
            self._dropped["wrong_speaker"] += 1
            return
        self._heard[report.device_id, report.model] = newer_of(
            self._heard.get((report.device_id, report.model)), Heard(report, now_s)
        )

    def drain(self) -> list[Heard]:
        """Everything that waits; the inbox is empty afterwards."""
        heard, self._heard = list(self._heard.values()), {}
        return heard

    def put_back(self, heard: Iterable[Heard]) -> None:
        """Take these back after they could not be written, where nothing newer has been heard since."""
        for each in heard:
            key = (each.report.device_id, each.report.model)
            later = self._heard.get(key)
            self._heard[key] = newer_of(each, later) if later else each

    def statistics(self) -> InboxStatistics:
        """See `InboxStatistics`."""
        return InboxStatistics(self._received, dict(self._dropped), len(self._heard))


def newer_of(before: Heard | None, after: Heard) -> Heard:
    """`after`, unless it is an older word of the same boot that came twice."""
    if before and before.report.boot_id == after.report.boot_id and before.report.sequence > after.report.sequence:
        return before
    return after
