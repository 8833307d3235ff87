"""Takes orders from the store to the director, who signs them, and tells whom they are for by a hint."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from anyio import CapacityLimiter, to_thread

from cloud_service.rollout.ports import Director, OrderBook, OrderT, Publish
from shared.clock import Clock
from shared.errors import BrokerError, RegistryError
from shared.update.codec import encode_hint
from shared.update.report import UpdateHint

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class Messenger(Generic[OrderT]):
    """For the orders of one book. First signed, then hinted at: a device that follows a hint finds what it is about."""

    def __init__(self, book: OrderBook[OrderT], director: Director, publish: Publish, clock: Clock) -> None:
        self._book = book
        self._director = director
        self._publish = publish
        self._clock = clock
        self._unhinted: dict[str, OrderT] = {}
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
        for order in await self._in_thread(lambda: self._book.orders(unsigned=True)):
            try:
                signed = await self._in_thread(partial(self._sign, order))
                if signed is not None:
                    self._unhinted[signed.topic] = signed
            except RegistryError as error:
                problems.append(f"{order.whom} waits for the director: {error}")
        try:
            await self._hint()
        except BrokerError as error:
            problems.append(f"orders wait to be told: {error}")
        self._complain("; ".join(problems))

    def _sign(self, order: OrderT) -> OrderT | None:
        """Told again after a crash in between: the director may have signed it, and not yet published it.

        Returns the order as it was signed; None where the store has a newer one by now.
        """
        in_force = self._director.assignments().get(order.target)
        if in_force and in_force != order.assignment and order.sequence <= in_force.sequence:
            # the store, or the clock, has gone back to before what was signed last
            renumbered = self._book.renumber(order, in_force.sequence + 1)
            if renumbered is None:
                return None
            order = renumbered
        if order.assignment is None:
            self._director.withdraw(order.target)
        else:
            self._director.assign_many({order.target: order.assignment})
        self._book.mark_signed(order, int(self._clock.unix_s()))
        return order

    async def _hint(self) -> None:
        if self._is_all_due:
            orders = await self._in_thread(self._book.orders)
            self._unhinted.update({each.topic: each for each in orders if each.signed_s is not None})
            self._is_all_due = False
        for topic, order in list(self._unhinted.items()):
            sent_at_unix_ms = int(self._clock.unix_s() * 1000)
            hint = UpdateHint(order.model, order.rollout_id, order.sequence, sent_at_unix_ms)
            # whoever listens hears of the end as well: an empty message is a hint too
            await self._publish(topic, encode_hint(hint) if order.keeps_a_hint else b"", retain=True)
            del self._unhinted[topic]

    def _complain(self, problem: str) -> None:
        """Once a problem, not once a second."""
        if problem and problem != self._problem:
            _log.warning("%s", problem)
        self._problem = problem

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        return await to_thread.run_sync(work, limiter=self._one_thread)
