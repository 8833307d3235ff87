"""Tells the rings what holds: orders from the store to the broker, again and again until it took them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from anyio import CapacityLimiter, to_thread

from cloud_service.watch.records import IssuedPolicy
from shared import topics
from shared.clock import Clock
from shared.codec import encode_policy
from shared.errors import BrokerError, StorageError
from shared.tracing import TRACING, UNTRACED, Kind
from shared.types import GatePolicy

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class PolicyStore(Protocol):
    """What the announcer asks of the store. Blocking."""

    def unpublished(self) -> tuple[IssuedPolicy, ...]:
        """Orders that the broker has not taken yet."""
        ...

    def newest_policies(self) -> tuple[IssuedPolicy, ...]:
        """Of each ring, model and gate the newest order."""
        ...

    def mark_published(self, policy_ids: Sequence[str], now_s: int) -> None:
        """The broker has taken these, or newer ones in their place."""
        ...


class Publish(Protocol):
    """See `shared.mqtt.BrokerLink.publish`."""

    def __call__(self, topic: str, payload: bytes, *, retain: bool) -> Awaitable[None]:
        """Publish, and wait until the broker has it."""
        ...


class Announcer:
    """One retained message a ring, model and gate: its newest order.

    `hears_of_connection` is for the link's `on_connect`.
    """

    def __init__(self, store: PolicyStore, publish: Publish, clock: Clock, *, interval_s: float) -> None:
        self._store = store
        self._publish = publish
        self._clock = clock
        self._interval_s = interval_s
        self._is_all_due = False
        self._one_thread = CapacityLimiter(1)

    async def hears_of_connection(self) -> None:
        """A broker that has lost its store is told everything anew."""
        self._is_all_due = True

    async def run(self) -> None:
        """Look for orders to publish at every interval, until cancelled."""
        while True:
            await self._clock.sleep(self._interval_s)
            await self.announce()

    async def announce(self) -> None:
        """Publish what the broker has not taken; what fails is tried again at the next time."""
        try:
            waiting = await self._in_thread(self._store.unpublished)
            if waiting or self._is_all_due:
                await self._announce(waiting)
        except (BrokerError, StorageError) as error:
            _log.warning("orders wait to be published: %s", error)

    async def _announce(self, waiting: Sequence[IssuedPolicy]) -> None:
        newest = _newest_by_topic(await self._in_thread(self._store.newest_policies))
        concerned = newest if self._is_all_due else {_topic_of(each) for each in waiting}
        for topic in concerned:
            policy = newest[topic].policy
            with _policy_span(policy) if TRACING.is_on else UNTRACED:
                await self._publish(topic, encode_policy(policy), retain=True)
        self._is_all_due = False
        if waiting:
            taken, now_s = [each.policy.policy_id for each in waiting], int(self._clock.unix_s())
            await self._in_thread(lambda: self._store.mark_published(taken, now_s))

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        return await to_thread.run_sync(work, limiter=self._one_thread)


def _newest_by_topic(policies: Iterable[IssuedPolicy]) -> dict[str, IssuedPolicy]:
    ordered = sorted(policies, key=lambda issued: issued.policy.sequence)
    return {_topic_of(issued): issued for issued in ordered}


def _topic_of(issued: IssuedPolicy) -> str:
    return topics.policy(issued.ring, issued.policy.model, issued.policy.gate_digest)


def _policy_span(policy: GatePolicy) -> AbstractContextManager[None]:
    """Goes on with the trace of the action that issued it."""
    attributes = {"tandem.policy_id": policy.policy_id, "tandem.model": policy.model}
    return TRACING.span("publish policy", kind=Kind.PRODUCER, parent=policy.traceparent, attributes=attributes)
