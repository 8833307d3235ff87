"""Decisions as entries in the log of actions. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from cloud_service.access.action_log import Entry, detail_json
from cloud_service.rollout.device_order import DeviceOrder
from cloud_service.rollout.records import Decision, Rollout


@dataclass(frozen=True)
class Actor:
    """Who decides: a user with a role, whoever sits at the host, or the service by itself."""

    name: str
    role: str


SERVICE = Actor("rollout", "service")


def pin_entry(actor: Actor, at_unix_ms: int, action: str, order: DeviceOrder, reason: str) -> Entry:
    """The entry for `pin` or `unpin`, with the version that the device is pinned to, or was."""
    detail = {"version": order.version, "reason": reason}
    subject = f"{order.model}/{order.device_id}"
    return Entry(at_unix_ms, actor.name, actor.role, f"rollout.{action}", subject, detail_json(detail))


@dataclass(frozen=True)
class EntryMaker:
    """Makes the entries of one actor at one moment."""

    actor: Actor
    at_unix_ms: int

    def __call__(self, rollout: Rollout, decision: Decision) -> Entry:
        """The decision's entry."""
        detail: dict[str, object] = {"version": rollout.plan.release.version, "reason": decision.reason}
        if decision.ring:
            detail["ring"] = decision.ring
        subject, action = f"{rollout.plan.model}/{rollout.id}", f"rollout.{decision.kind.value}"
        return Entry(self.at_unix_ms, self.actor.name, self.actor.role, action, subject, detail_json(detail))
