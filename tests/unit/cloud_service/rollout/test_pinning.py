from __future__ import annotations

from dataclasses import replace

import pytest

from cloud_service.registry.catalogue import ListedRelease
from cloud_service.rollout.pinning import PinWish, make_pin
from cloud_service.rollout.ring_order import RingOrder
from cloud_service.rollout.telling import arm_of
from shared.errors import InputError, RolloutError
from shared.update.assignment import Assignment
from tests.support.rollout_parts import MODEL, NEW, NOW_S, OLD, a_report, release_for

LISTED = [
    ListedRelease(MODEL, OLD.version, OLD.release, (), OLD.manifest_sha256, (OLD.gate_digest,)),
    ListedRelease(MODEL, NEW.version, NEW.release, ("jetson",), NEW.manifest_sha256, (NEW.gate_digest, "c" * 64)),
]


def order(ring: str, floor: int) -> RingOrder:
    return RingOrder(ring, MODEL, "r0", 1, Assignment(MODEL, "r0", 1, floor, (arm_of(NEW),)), NOW_S)


def test_a_pin_names_one_release_for_its_device_and_the_hardware_it_is_for() -> None:
    pin = make_pin(PinWish("dock-1", MODEL, NEW.version), "pin-1", LISTED, [], None)
    assert (pin.model, pin.rollout, pin.hardware) == (MODEL, "pin-1", ("jetson",))
    assert release_for(pin, "dock-1") == NEW.version and pin.arms[0].gate_digest == NEW.gate_digest
    other_gate = make_pin(PinWish("dock-1", MODEL, NEW.version, "cc"), "pin-1", LISTED, [], None)
    assert other_gate.arms[0].gate_digest == "c" * 64


@pytest.mark.parametrize(("floors", "floor"), [((), 0), ((1,), 1), ((2, 1), 1), ((2, 2), 2), ((9,), 2)])
def test_the_floor_lies_below_whatever_ring_the_device_may_come_back_to(floors: tuple[int, ...], floor: int) -> None:
    orders = [order(f"ring-{number}", each) for number, each in enumerate(floors)]
    assert make_pin(PinWish("dock-1", MODEL, NEW.version), "pin-1", LISTED, orders, None).floor == floor


def test_a_release_below_the_floor_of_the_devices_ring_needs_a_signed_exception() -> None:
    orders, wish = [order("canary", 2), order("stable", 1)], PinWish("d1", MODEL, OLD.version)
    with pytest.raises(RolloutError, match=f"take none below 2: allow it with .*registry allow {MODEL}@1"):
        make_pin(wish, "pin-1", LISTED, orders, a_report("d1", ring="canary"))
    assert make_pin(wish, "pin-1", LISTED, orders, a_report("d1", ring="stable")).floor == 1
    excepted = [replace(LISTED[0], is_excepted=True), LISTED[1]]
    assert make_pin(wish, "pin-1", excepted, orders, a_report("d1", ring="canary")).floor == 1


def test_what_cannot_be_pinned_is_said() -> None:
    with pytest.raises(RolloutError, match="release 9 is not published; published are 1, 2"):
        make_pin(PinWish("d1", MODEL, "9"), "pin-1", LISTED, [], None)
    with pytest.raises(RolloutError, match="gate ffff is none"):
        make_pin(PinWish("d1", MODEL, NEW.version, "ffff"), "pin-1", LISTED, [], None)
    with pytest.raises(RolloutError, match="intents 2 is for jetson, and d1 is cpu"):
        make_pin(PinWish("d1", MODEL, NEW.version), "pin-1", LISTED, [], a_report("d1"))
    with pytest.raises(InputError):
        make_pin(PinWish("d/1", MODEL, NEW.version), "pin-1", LISTED, [], None)
