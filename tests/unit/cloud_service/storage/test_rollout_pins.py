from __future__ import annotations

import threading

import pytest
from sqlalchemy import Engine

from cloud_service.access.action_log import Entry
from cloud_service.rollout.device_order import DeviceOrder
from cloud_service.rollout.telling import arm_of
from cloud_service.storage.action_store import ActionLog, Wanted
from cloud_service.storage.rollout_pins import PinReader, PinStore
from cloud_service.storage.rollout_reader import RolloutReader
from cloud_service.storage.schema import migrate
from shared.errors import RolloutError
from shared.update.assignment import Assignment
from tests.support.rollout_parts import MODEL, NEW, NOW_S

PINNED = Entry(1, "anna", "operator", "rollout.pin", "dock")


def order(device_id: str = "dock-1", decided_s: int = NOW_S) -> DeviceOrder:
    assignment = Assignment(MODEL, "pin-1", 0, 1, (arm_of(NEW),))
    return DeviceOrder(device_id, MODEL, "pin-1", 0, assignment, decided_s, "anna", "under repair")


@pytest.fixture
def store(writing: Engine) -> PinStore:
    migrate(writing)
    return PinStore(writing)


def test_a_pin_is_kept_whole_until_it_ends(store: PinStore, reading: Engine) -> None:
    pin = store.pin(order(), PINNED, most=1)
    assert pin.assignment is not None and pin.assignment.sequence == pin.sequence == NOW_S
    assert PinReader(reading).pins(model=MODEL) == store.orders(unsigned=True) == [pin]
    assert RolloutReader(reading).counts().unsigned_orders == 1
    assert PinReader(reading).pins(model="other") == PinReader(reading).pins(device_id="other") == []
    ended = store.unpin("dock-1", MODEL, lambda before: PINNED, "olga", "mended", NOW_S)
    assert (ended.assignment, ended.sequence, ended.decided_by) == (None, NOW_S + 1, "olga")
    assert PinReader(reading).pins() == [] and store.pinned(MODEL) == frozenset()
    store.mark_signed(pin, NOW_S)
    assert store.orders(unsigned=True) == [ended]
    store.mark_signed(ended, NOW_S)
    assert store.orders(unsigned=True) == []


def test_an_order_that_was_replaced_meanwhile_is_given_no_other_sequence(store: PinStore) -> None:
    first = store.pin(order(), PINNED, most=1)
    second = store.pin(order(decided_s=NOW_S - 500), PINNED, most=1)
    assert second.sequence == first.sequence + 1
    assert store.renumber(first, NOW_S + 900) is None
    raised = store.renumber(second, NOW_S + 900)
    assert raised is not None and raised.assignment is not None and raised.assignment.sequence == NOW_S + 900
    assert store.orders() == [raised]


def test_of_many_who_pin_at_once_no_more_succeed_than_may(store: PinStore, reading: Engine) -> None:
    refused = []

    def pin(number: int) -> None:
        try:
            store.pin(order(f"dock-{number}"), PINNED, most=3)
        except RolloutError:
            refused.append(number)

    threads = [threading.Thread(target=pin, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 3 and len(store.pinned(MODEL)) == 3
    assert len(ActionLog(reading).read(Wanted(9))) == 3
