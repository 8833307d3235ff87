"""Takes orders from the store to the director, who signs them, and tells rings by a retained hint to look them up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from cloud_service.rollout.ports import Director, Publish
from cloud_service.rollout.ring_order import RingOrder
from cloud_service.storage.rollout_store import RolloutStore
from shared import topics
from shared.clock import Clock
from shared.errors import BrokerError, RegistryError
from shared.update.codec import encode_hint
from shared.update.names import ring_target
from shared.update.report import UpdateHint

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class Messenger:
    """First signed, then hinted at: a device that follows a hint finds what it is about.

    `hears_of_connection` is for the link's `on_connect`.
    """

    def __init__(self, store: RolloutStore, director: Director, publish: Publish, clock: Clock) -> None:
        self._store = store
        self._director = director
        self._publish = publish
        self._clock = clock
        self._unhinted: dict[tuple[str, str], RingOrder] = {}
        self._is_all_due = True
        self._problem = ""
        self._one_thread = CapacityLimiter(1)

    @property
    def problem(self) -> str:
        """Why an order is not signed or told, in plain words; "" where all are."""
        return self._problem

    async def hears_of_connection(self) -> None:
        """A broker that has lost its store is told everything anew."""
        self._is_all_due = True

    async def deliver(self) -> None:
        """Sign and tell what waits; what fails is tried again at the next time."""
        problems = []
        for order in await self._in_thread(lambda: self._store.orders(unsigned=True)):
            try:
                signed = await self._in_thread(partial(self._sign, order))
                if signed is not None:
                    self._unhinted[order.ring, order.model] = signed
            except RegistryError as error:
                problems.append(f"ring {order.ring} waits for the director: {error}")
        try:
            await self._hint()
        except BrokerError as error:
            problems.append(f"rings wait to be told: {error}")
        self._complain("; ".join(problems))

    def _sign(self, order: RingOrder) -> RingOrder | None:
        """Told again after a crash in between: the director may have signed it, and not yet published it.

        Returns the order as it was signed; None where the store has a newer one by now.
        """
        target = ring_target(order.ring, order.model)
        in_force = self._director.assignments().get(target)
        if in_force and in_force != order.assignment and order.sequence <= in_force.sequence:
            # the store, or the clock, has gone back to before what was signed last
            renumbered = self._store.renumber(order, in_force.sequence + 1)
            if renumbered is None:
                return None
            order = renumbered
        if order.assignment is None:
            self._director.withdraw(target)
        else:
            self._director.assign_many({target: order.assignment})
        self._store.mark_signed(order, int(self._clock.unix_s()))
        return order

    async def _hint(self) -> None:
        if self._is_all_due:
            orders: Sequence[RingOrder] = await self._in_thread(self._store.orders)
            self._unhinted.update({(each.ring, each.model): each for each in orders if each.signed_s is not None})
            self._is_all_due = False
        for key, order in list(self._unhinted.items()):
            sent_at_unix_ms = int(self._clock.unix_s() * 1000)
            hint = UpdateHint(order.model, order.rollout_id, order.sequence, sent_at_unix_ms)
            await self._publish(topics.ring_desired(order.ring, order.model), encode_hint(hint), retain=True)
            del self._unhinted[key]

    def _complain(self, problem: str) -> None:
        """Once a problem, not once a second."""
        if problem and problem != self._problem:
            _log.warning("%s", problem)
        self._problem = problem

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        return await to_thread.run_sync(work, limiter=self._one_thread)
