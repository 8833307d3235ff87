from __future__ import annotations

import pytest

from cloud_service.fleet.announcer import Announcer
from cloud_service.watch.records import IssuedPolicy
from shared import topics
from shared.clock import SystemClock
from shared.codec import decode_policy
from shared.errors import BrokerError
from shared.types import GatePolicy
from tests.support.memory_store import MemoryStore

pytestmark = pytest.mark.anyio


class Broker:
    """What a broker retains; away while `is_away`."""

    def __init__(self) -> None:
        self.retained: dict[str, bytes] = {}
        self.is_away = False

    async def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        if self.is_away:
            raise BrokerError("away")
        assert retain
        self.retained[topic] = payload

    def told(self, gate_digest: str) -> str:
        return decode_policy(self.retained[topics.policy("default", "intents", gate_digest)]).policy_id


def store_of(*policies: GatePolicy) -> MemoryStore:
    store = MemoryStore()
    store.policies = {each.policy_id: IssuedPolicy(each, "default", 0) for each in policies}
    return store


def order(sequence: int, gate_digest: str) -> GatePolicy:
    return GatePolicy(f"p{sequence}", sequence, "intents", gate_digest, escalate_all=True)


async def test_orders_for_two_gates_of_one_ring_and_model_reach_the_broker_both() -> None:
    store, broker = store_of(order(1, "aa"), order(2, "aa"), order(3, "bb")), Broker()
    await Announcer(store, broker.publish, SystemClock(), interval_s=1.0).announce()
    assert (broker.told("aa"), broker.told("bb")) == ("p2", "p3")
    assert store.unpublished() == ()


async def test_orders_wait_for_a_broker_and_are_all_said_again_to_one_that_forgot_them() -> None:
    store, broker = store_of(order(1, "aa"), order(2, "bb")), Broker()
    announcer = Announcer(store, broker.publish, SystemClock(), interval_s=1.0)
    broker.is_away = True
    await announcer.announce()
    assert len(store.unpublished()) == 2
    broker.is_away = False
    await announcer.announce()
    broker.retained.clear()
    await announcer.hears_of_connection()
    await announcer.announce()
    assert (broker.told("aa"), broker.told("bb")) == ("p1", "p2")
