from __future__ import annotations

from dataclasses import replace

from cloud_service.fleet.presence import DeviceState, after_presence, after_telemetry
from shared.types import ModelTelemetry, Presence
from tests.support.simulated_device import CountedModel

ONLINE = DeviceState("d1", "b2", True, "1.0", first_heard_s=10, last_seen_s=20)


def word(boot_id: str, *, online: bool, version: str = "1.1") -> Presence:
    return Presence("d1", boot_id, online, 0, version)


def counts(boot_id: str, ring: str = "default") -> ModelTelemetry:
    return replace(CountedModel("d1", boot_id).telemetry(), ring=ring)


def test_a_device_that_says_hello_is_online_with_its_version() -> None:
    state = after_presence(None, word("b1", online=True), 50, retained=False)
    assert state == DeviceState("d1", "b1", True, "1.1", first_heard_s=50, last_seen_s=50)


def test_a_word_that_the_broker_kept_is_no_sight_of_the_device() -> None:
    assert after_presence(None, word("b1", online=True), 50, retained=True).last_seen_s is None
    assert after_presence(ONLINE, word("b2", online=True), 50, retained=True).last_seen_s == 20
    assert after_telemetry(None, counts("b1"), 50, retained=True) == DeviceState("d1", "b1", False, "", 50)


def test_the_will_of_the_present_boot_takes_the_device_offline() -> None:
    assert not after_presence(ONLINE, word("b2", online=False), 50, retained=False).is_online


def test_the_late_will_of_an_earlier_boot_says_nothing_of_the_present_one() -> None:
    assert after_presence(ONLINE, word("b1", online=False), 50, retained=False) == ONLINE


def test_live_counts_of_another_boot_prove_that_it_runs() -> None:
    gone = after_presence(ONLINE, word("b2", online=False), 50, retained=False)
    back = after_telemetry(gone, counts("b3"), 60, retained=False)
    assert back.is_online and back.boot_id == "b3" and back.last_seen_s == 60


def test_counts_of_a_boot_that_said_goodbye_do_not_bring_it_back() -> None:
    gone = after_presence(ONLINE, word("b2", online=False), 50, retained=False)
    assert not after_telemetry(gone, counts("b2"), 60, retained=False).is_online


def test_a_device_moves_to_the_ring_that_it_says() -> None:
    moved = after_presence(ONLINE, replace(word("b2", online=True), ring="early"), 50, retained=False)
    assert (ONLINE.ring, moved.ring) == ("default", "early")
    assert after_telemetry(moved, counts("b2", "late"), 60, retained=False).ring == "late"
    assert after_telemetry(moved, counts("b1", "old"), 60, retained=True).ring == "early"
