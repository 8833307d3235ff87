"""Where people give their orders: pages and commands alike. Blocking: call from a worker thread."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime, timezone
from enum import Enum
from functools import partial

from cloud_service.rollout import orders
from cloud_service.rollout.log_entries import Actor, EntryMaker
from cloud_service.rollout.plan import Plan
from cloud_service.rollout.records import Rollout, Step
from cloud_service.storage.rollout_store import RolloutStore
from shared.clock import Clock


class Order(str, Enum):
    """What may be ordered of a rollout. `abort_keep`: the rings that it reached stay with what they were told."""

    APPROVE = "approve"
    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    ABORT = "abort"
    ABORT_KEEP = "abort_keep"
    ROLLBACK = "rollback"


_RULES: dict[Order, Callable[[Rollout, str, int], Step]] = {
    Order.APPROVE: orders.approve,
    Order.PAUSE: orders.pause,
    Order.RESUME: orders.resume,
    Order.PROMOTE: orders.promote,
    Order.ABORT: orders.abort,
    Order.ABORT_KEEP: partial(orders.abort, keep=True),
    Order.ROLLBACK: orders.take_back,
}


class RolloutDesk:
    """Writes to the store; the rollout service carries out what follows from it within a second or so."""

    def __init__(self, store: RolloutStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def start(self, plan: Plan, actor: Actor, *, everywhere: bool = False) -> Rollout:
        """Begin a rollout; `everywhere`: in all of its stages at once, whatever devices say.

        Raises:
            RolloutError: the plan cannot be followed, or a ring has another rollout of the model under way.
            StorageError: the store cannot be written.
        """
        now_s = int(self._clock.unix_s())
        begin = orders.start_everywhere if everywhere else orders.start
        step = begin(_new_id(now_s), plan, actor.name, now_s)
        self._store.add(step, self._entries(actor))
        return step.rollout

    def give(
        self, order: Order, rollout_id: str, actor: Actor, check: Callable[[Rollout], None] = lambda rollout: None
    ) -> Rollout:
        """Give an order. `check` sees the rollout as it is at that moment, and raises where it is not as was meant.

        Raises:
            RolloutError: there is no such rollout, it cannot be done as the rollout stands, or `check` says so.
            StorageError: the store cannot be written.
        """
        now_s = int(self._clock.unix_s())

        def rule(rollout: Rollout) -> Step:
            check(rollout)
            return _RULES[order](rollout, actor.name, now_s)

        return self._store.change(rollout_id, rule, self._entries(actor)).rollout

    def _entries(self, actor: Actor) -> EntryMaker:
        return EntryMaker(actor, int(self._clock.unix_s() * 1000))


def _new_id(now_s: int) -> str:
    """Sorts by day, and is no other one's: devices' places in a ring follow from it."""
    return f"{datetime.fromtimestamp(now_s, timezone.utc):%Y%m%d}-{secrets.token_hex(3)}"
