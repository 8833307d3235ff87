"""What has been heard and not yet booked: checked, and only the newest of each kept. Pure.

Counts are cumulative for each series, so keeping the newest message of a series loses nothing; a new boot or model
version is another series, so the last word of the one before stays too.
"""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager
from dataclasses import dataclass

from cloud_service.fleet.deltas import Series, Snapshot, series_of, snapshot_of
from shared import topics
from shared.codec import decode_presence, decode_telemetry
from shared.errors import MessageError
from shared.mqtt import Message
from shared.topics import DeviceTopic
from shared.tracing import TRACING, UNTRACED, Kind
from shared.types import ModelTelemetry, Presence

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
    """A telemetry message, taken apart, and when it was heard.

    `retained`: it says nothing of who is there now, as the broker kept it, or it is of a boot that has ended.
    """

    series: Series
    snapshot: Snapshot
    telemetry: ModelTelemetry
    heard_s: int
    retained: bool


@dataclass(frozen=True)
class Batch:
    """What one transaction books, in the order of arrival."""

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

    def drain(self) -> Batch:
        """Everything that waits; the inbox is empty afterwards."""
        batch = Batch(tuple(self._presences.values()), tuple(self._telemetry.values()))
        self._presences, self._telemetry = {}, {}
        return batch

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
        telemetry = decode_telemetry(message.payload)
        if (telemetry.device_id, telemetry.model.name) != (topic.device_id, topic.model):
            self._dropped["wrong_speaker"] += 1
            return
        is_of_the_past = message.retained or topic.has_ended
        with _message_span(telemetry) if TRACING.is_on else UNTRACED:
            self._keep_telemetry(
                HeardTelemetry(series_of(telemetry), snapshot_of(telemetry), telemetry, now_s, is_of_the_past)
            )

    def _keep_telemetry(self, heard: HeardTelemetry) -> None:
        before = self._telemetry.get(heard.series)
        self._coalesced += before is not None
        if before is None or heard.snapshot.sequence > before.snapshot.sequence:
            self._telemetry.pop(heard.series, None)
            self._telemetry[heard.series] = heard


def _message_span(telemetry: ModelTelemetry) -> AbstractContextManager[None]:
    """Goes on with the trace of the device's report."""
    attributes = {"tandem.device": telemetry.device_id, "tandem.model": telemetry.model.name}
    return TRACING.span("take telemetry", kind=Kind.CONSUMER, parent=telemetry.traceparent, attributes=attributes)
