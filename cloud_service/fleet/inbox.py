"""What has been heard and not yet booked: checked, and only the newest of each kept. Pure.

Counts are cumulative for each series, so keeping the newest message of a series loses nothing; a new boot or model
version is another series, so the last word of the one before stays too. A message is taken apart only once it is
booked, and one that overtakes another takes its place in the queue: so the fleet may say more than can be booked.
"""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import islice

from cloud_service.fleet.deltas import Series
from shared import topics
from shared.codec import decode_presence, read_telemetry_head
from shared.errors import MessageError
from shared.mqtt import Message
from shared.topics import DeviceTopic
from shared.tracing import TRACING, UNTRACED, Kind
from shared.types import Presence
from shared.wire_checks import TelemetryHead

MAX_PAYLOAD_BYTES = 64 * 1024
"""Larger than any honest message: see `edge_agent.judgements`, which bounds what grows with a model's labels."""


@dataclass(frozen=True)
class HeardPresence:
    """A presence message and when it was heard (server's clock, seconds since 1970-01-01 UTC)."""

    presence: Presence
    heard_s: int
    retained: bool


@dataclass(frozen=True)
class HeardTelemetry:
    """A telemetry message that was found sound, and when it was heard; `waits_since_s`: the first one that it overtook.

    `retained`: it says nothing of who is there now, as the broker kept it, or it is of a boot that has ended.
    """

    series: Series
    sequence: int
    payload: bytes
    heard_s: int
    waits_since_s: int
    retained: bool


@dataclass(frozen=True)
class Batch:
    """What one transaction books: what has waited longest comes first."""

    presences: tuple[HeardPresence, ...]
    telemetry: tuple[HeardTelemetry, ...]


@dataclass(frozen=True)
class InboxStatistics:
    """Counts since the start. `dropped` by reason; `coalesced` messages were overtaken before they were booked."""

    received: dict[str, int]
    dropped: dict[str, int]
    coalesced: int
    waiting: int


class Inbox:
    """Holds at most `capacity` messages; the caller waits while it `is_full`."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._presences: dict[tuple[str, str], HeardPresence] = {}
        self._telemetry: dict[Series, HeardTelemetry] = {}
        self._received: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._coalesced = 0

    @property
    def is_full(self) -> bool:
        """Whether no further message may be taken in before a `drain`."""
        return len(self._presences) + len(self._telemetry) >= self._capacity

    def take_in(self, message: Message, now_s: int) -> None:
        """Keep `message`, heard at `now_s`; what is malformed or spoken for another device is dropped and counted."""
        if not message.payload:
            self._dropped["empty"] += 1
            return
        try:
            topic = topics.parse(message.topic)
            self._received[topic.kind] += 1
            if len(message.payload) > MAX_PAYLOAD_BYTES:
                raise MessageError(f"{len(message.payload)} bytes are more than {MAX_PAYLOAD_BYTES}")
            if topic.kind == "presence":
                self._take_presence(topic, message, now_s)
            else:
                self._take_telemetry(topic, message, now_s)
        except MessageError:
            self._dropped["malformed"] += 1

    def drain(self, most: int | None = None) -> Batch:
        """All presences, and the `most` telemetry messages that have waited longest (None: all); the rest waits on."""
        presences, self._presences = tuple(self._presences.values()), {}
        telemetry = tuple(islice(self._telemetry.values(), most))
        if len(telemetry) == len(self._telemetry):
            self._telemetry = {}
        else:
            for heard in telemetry:
                del self._telemetry[heard.series]
            self._end_boots_before(presences)
        return Batch(presences, telemetry)

    def put_back(self, batch: Batch) -> None:
        """Take `batch` back after it could not be booked, where nothing newer has been heard since."""
        newer_presences, newer_telemetry = self._presences, self._telemetry
        self._presences = {(heard.presence.device_id, heard.presence.boot_id): heard for heard in batch.presences}
        self._telemetry = {heard.series: heard for heard in batch.telemetry}
        for presence in newer_presences.values():
            self._keep_presence(presence)
        for telemetry in newer_telemetry.values():
            self._keep_telemetry(telemetry)

    def statistics(self) -> InboxStatistics:
        """See `InboxStatistics`."""
        waiting = len(self._presences) + len(self._telemetry)
        return InboxStatistics(dict(self._received), dict(self._dropped), self._coalesced, waiting)

    def _end_boots_before(self, presences: tuple[HeardPresence, ...]) -> None:
        """A boot that began is booked now: what another one said before must not count later as a sign of life."""
        running = {each.presence.device_id: each.presence.boot_id for each in presences if each.presence.online}
        if running:
            for series, heard in self._telemetry.items():
                if running.get(series.device_id, series.boot_id) != series.boot_id and not heard.retained:
                    self._telemetry[series] = replace(heard, retained=True)

    def _take_presence(self, topic: DeviceTopic, message: Message, now_s: int) -> None:
        presence = decode_presence(message.payload)
        if presence.device_id != topic.device_id:
            self._dropped["wrong_speaker"] += 1
            return
        self._keep_presence(HeardPresence(presence, now_s, message.retained))

    def _keep_presence(self, heard: HeardPresence) -> None:
        key = (heard.presence.device_id, heard.presence.boot_id)
        self._coalesced += self._presences.pop(key, None) is not None
        self._presences[key] = heard

    def _take_telemetry(self, topic: DeviceTopic, message: Message, now_s: int) -> None:
        head = read_telemetry_head(message.payload)
        if (head.device_id, head.model) != (topic.device_id, topic.model):
            self._dropped["wrong_speaker"] += 1
            return
        series = Series(head.device_id, head.model, head.boot_id, head.model_version, head.variant)
        is_of_the_past = message.retained or topic.has_ended
        with _message_span(head) if TRACING.is_on else UNTRACED:
            self._keep_telemetry(HeardTelemetry(series, head.sequence, message.payload, now_s, now_s, is_of_the_past))

    def _keep_telemetry(self, heard: HeardTelemetry) -> None:
        before = self._telemetry.get(heard.series)
        if before is None:
            self._telemetry[heard.series] = heard
            return
        self._coalesced += 1
        if heard.sequence > before.sequence:
            self._telemetry[heard.series] = HeardTelemetry(
                heard.series, heard.sequence, heard.payload, heard.heard_s, before.waits_since_s, heard.retained
            )


def _message_span(head: TelemetryHead) -> AbstractContextManager[None]:
    """Goes on with the trace of the device's report."""
    attributes = {"tandem.device": head.device_id, "tandem.model": head.model}
    return TRACING.span("take telemetry", kind=Kind.CONSUMER, parent=head.traceparent, attributes=attributes)
