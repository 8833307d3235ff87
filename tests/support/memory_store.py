"""The fleet service's store in memory, with faults to order. Implements `cloud_service.fleet.ingest.Store`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cloud_service.fleet.book import Changes, ModelState
from cloud_service.fleet.buckets import ALL_TIME_S, WHOLE_FLEET, Bucket, CountKey
from cloud_service.fleet.deltas import Series
from cloud_service.fleet.presence import DeviceState
from cloud_service.fleet.status import FleetStatus
from cloud_service.fleet.tally import Tally, total
from shared.errors import StorageError, StoreTaken


class MemoryStore:
    """`fail_next`: "before" a commit takes hold, or "after", so that the writer cannot know."""

    def __init__(self) -> None:
        self.devices: dict[str, DeviceState] = {}
        self.states: dict[Series, ModelState] = {}
        self.counts: dict[CountKey, Tally] = {}
        self.status: FleetStatus | None = None
        self.fail_next = ""
        self.is_taken = False
        self.pruned: list[Mapping[int, int]] = []

    def claim(self, status: FleetStatus) -> None:
        self.status = status

    def load(self) -> tuple[list[DeviceState], list[ModelState]]:
        return list(self.devices.values()), list(self.states.values())

    def load_counts(self, bucket: Bucket) -> dict[CountKey, Tally]:
        return {key: tally for key, tally in self.counts.items() if key.bucket == bucket}

    def commit(self, changes: Changes, status: FleetStatus) -> None:
        if self.is_taken:
            raise StoreTaken("taken")
        when, self.fail_next = self.fail_next, ""
        if when == "before":
            raise StorageError("ordered by the test")
        self.devices.update(changes.devices)
        self.states.update(changes.states)
        self.counts.update(changes.counts)
        self.status = status
        if when == "after":
            raise StorageError("ordered by the test")

    def prune(self, kept_since: Mapping[int, int], forgotten: Sequence[Series]) -> int:
        self.pruned.append(kept_since)
        for series in forgotten:
            del self.states[series]
        return len(forgotten)

    def sum(self, width_s: int = ALL_TIME_S, device_id: str = WHOLE_FLEET) -> Tally:
        """Everything booked in buckets of this width."""
        return total(
            tally for key, tally in self.counts.items() if key.bucket.width_s == width_s and key.device_id == device_id
        )
