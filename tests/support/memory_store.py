"""The fleet service's store in memory, with faults to order. Implements `cloud_service.fleet.ingest.Store`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cloud_service.fleet.book import Changes, ModelState
from cloud_service.fleet.buckets import ALL_TIME_S, WHOLE_FLEET, Bucket, CountKey
from cloud_service.fleet.deltas import Series
from cloud_service.fleet.presence import DeviceState
from cloud_service.fleet.status import FleetStatus
from cloud_service.fleet.tally import Tally, total
from cloud_service.watch.records import GateAlarm, GateWatch, IssuedPolicy, KnownGate, WatchKey, WatchRecords
from shared.errors import StorageError, StoreTaken


class MemoryStore:
    """`fail_next`: "before" a commit takes hold, or "after", so that the writer cannot know."""

    def __init__(self) -> None:
        self.devices: dict[str, DeviceState] = {}
        self.states: dict[Series, ModelState] = {}
        self.counts: dict[CountKey, Tally] = {}
        self.gates: dict[str, KnownGate] = {}
        self.watches: dict[WatchKey, GateWatch] = {}
        self.alarms: list[GateAlarm] = []
        self.policies: dict[str, IssuedPolicy] = {}
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

    def keep_gates(self, gates: Sequence[KnownGate]) -> None:
        self.gates.update({known.digest: known for known in gates})

    def load_watch(self) -> WatchRecords:
        return WatchRecords(tuple(self.gates.values()), tuple(self.watches.values()), self.newest_policies())

    def newest_policies(self) -> tuple[IssuedPolicy, ...]:
        ordered = sorted(self.policies.values(), key=lambda issued: issued.policy.sequence)
        newest = {(each.ring, each.policy.model, each.policy.gate_digest): each for each in ordered}
        return tuple(newest.values())

    def unpublished(self) -> tuple[IssuedPolicy, ...]:
        return tuple(issued for issued in self.policies.values() if issued.published_s is None)

    def mark_published(self, policy_ids: Sequence[str], now_s: int) -> None:
        for policy_id in policy_ids:
            self.policies[policy_id] = replace(self.policies[policy_id], published_s=now_s)

    def commit(self, changes: Changes, status: FleetStatus) -> None:
        if self.is_taken:
            raise StoreTaken("taken")
        when, self.fail_next = self.fail_next, ""
        if when == "before":
            raise StorageError("ordered by the test")
        self.devices.update(changes.devices)
        self.states.update(changes.states)
        self.counts.update(changes.counts)
        self.watches.update(changes.watches)
        self.alarms.extend(changes.alarms)
        self.policies.update({issued.policy.policy_id: issued for issued in changes.policies})
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
