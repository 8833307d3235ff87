"""Decisions as entries in the log of actions. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from cloud_service.access.action_log import Entry, detail_json
from cloud_service.rollout.records import Decision, Rollout


@dataclass(frozen=True)
class Actor:
    """Who decides: a user with a role, whoever sits at the host, or the service by itself."""

    name: str
    role: str


SERVICE = Actor("rollout", "service")


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
