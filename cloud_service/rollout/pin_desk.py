"""Where people pin devices and let go of them. Blocking: call from a worker thread."""

from __future__ import annotations

import secrets
from datetime import datetime, timezone
from functools import partial

from cloud_service.access.action_log import Entry
from cloud_service.rollout.device_order import PIN_PREFIX, DeviceOrder
from cloud_service.rollout.log_entries import Actor, pin_entry
from cloud_service.storage.rollout_pins import PinStore
from shared.clock import Clock
from shared.update.assignment import Assignment


class PinDesk:
    """Writes to the store; the rollout service carries it out within a second or so.

    `most`: so many devices may be pinned at once; see `RegistrySettings.device_assignments`.
    """

    def __init__(self, store: PinStore, clock: Clock, *, most: int) -> None:
        self._store = store
        self._clock = clock
        self._most = most

    def new_id(self) -> str:
        """A pin's name, which no other one has: what failed under another pin is tried again under it."""
        day = datetime.fromtimestamp(self._clock.unix_s(), timezone.utc)
        return f"{PIN_PREFIX}{day:%Y%m%d}-{secrets.token_hex(3)}"

    def pin(self, device_id: str, assignment: Assignment, actor: Actor, reason: str) -> DeviceOrder:
        """Let a device run `assignment`, whatever its ring is told; a pin before is replaced.

        Raises:
            RolloutError: too many devices are pinned.
            StorageError: the store cannot be written.
        """
        now_ms = int(self._clock.unix_s() * 1000)
        model, pin_id = assignment.model, assignment.rollout
        order = DeviceOrder(device_id, model, pin_id, 0, assignment, now_ms // 1000, actor.name, reason)
        return self._store.pin(order, pin_entry(actor, now_ms, "pin", order, reason), most=self._most)

    def unpin(self, device_id: str, model: str, actor: Actor, reason: str) -> DeviceOrder:
        """Let a device follow its ring again.

        Raises:
            RolloutError: it is not pinned.
            StorageError: the store cannot be written.
        """
        now_ms = int(self._clock.unix_s() * 1000)
        entry_of = partial(_unpinned, actor, now_ms, reason)
        return self._store.unpin(device_id, model, entry_of, actor.name, reason, now_ms // 1000)


def _unpinned(actor: Actor, now_ms: int, reason: str, pin: DeviceOrder) -> Entry:
    return pin_entry(actor, now_ms, "unpin", pin, reason)
