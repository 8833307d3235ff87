from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cloud_service.fleet.inbox import MAX_PAYLOAD_BYTES, Inbox
from shared import topics
from shared.codec import encode_presence, encode_telemetry
from shared.mqtt import Message
from shared.types import GateReport, ModelTelemetry, Outcome, Presence
from tests.support.simulated_device import CountedModel

TOPIC = topics.telemetry("d1", "intents")


def telemetry(told: ModelTelemetry, topic: str = TOPIC) -> Message:
    return Message(topic, encode_telemetry(told))


def of(model: CountedModel) -> Message:
    """What a model tells now, on its own topic."""
    told = model.telemetry()
    return telemetry(told, topics.telemetry(told.device_id, told.model.name))


def presence(device_id: str, boot_id: str, *, online: bool) -> Message:
    return Message(topics.presence(device_id), encode_presence(Presence(device_id, boot_id, online, 0, "1")))


def test_only_the_newest_word_of_a_series_waits() -> None:
    inbox, model = Inbox(10), CountedModel("d1", "b1")
    told = [model.telemetry() for _ in range(3)]
    for each in (told[1], told[2], told[0]):
        inbox.take_in(telemetry(each), 5)
    (heard,) = inbox.drain().telemetry
    assert heard.sequence == 3
    assert inbox.statistics().coalesced == 2


def test_the_last_word_of_an_earlier_boot_or_version_waits_beside_the_next_ones() -> None:
    inbox = Inbox(10)
    for model in (CountedModel("d1", "b1"), CountedModel("d1", "b2"), CountedModel("d1", "b2", version="2")):
        inbox.take_in(telemetry(model.telemetry()), 5)
    assert len(inbox.drain().telemetry) == 3


def test_presence_of_two_boots_keeps_the_order_of_arrival() -> None:
    inbox = Inbox(10)
    for message in (
        presence("d1", "b1", online=True),
        presence("d1", "b2", online=True),
        presence("d1", "b1", online=False),
    ):
        inbox.take_in(message, 5)
    heard = [(each.presence.boot_id, each.presence.online) for each in inbox.drain().presences]
    assert heard == [("b2", True), ("b1", False)]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Message(TOPIC, b""), "empty"),
        (Message(TOPIC, b"\xff\xfe nothing of ours"), "malformed"),
        (Message("tandem/v1/devices/d1/else", b"x"), "malformed"),
        (Message(TOPIC, b"x" * (MAX_PAYLOAD_BYTES + 1)), "malformed"),
        (Message(topics.presence("d1"), encode_presence(Presence("d2", "b1", True, 0, "1"))), "wrong_speaker"),
        (telemetry(CountedModel("d2", "b1").telemetry()), "wrong_speaker"),
        (telemetry(CountedModel("d1", "b1", model="other").telemetry()), "wrong_speaker"),
        (telemetry(replace(CountedModel("d1", "b1").telemetry(), cloud_link="a\0b")), "malformed"),
        (
            telemetry(replace(CountedModel("d1", "b1").telemetry(), gate=GateReport(threshold=float("nan")))),
            "malformed",
        ),
    ],
)
def test_what_cannot_be_believed_is_dropped_and_counted(message: Message, reason: str) -> None:
    inbox = Inbox(10)
    inbox.take_in(message, 5)
    assert inbox.statistics().dropped == {reason: 1}
    assert inbox.statistics().waiting == 0


def test_a_batch_that_could_not_be_booked_does_not_hide_newer_words() -> None:
    inbox, model = Inbox(10), CountedModel("d1", "b1")
    inbox.take_in(telemetry(model.telemetry()), 5)
    inbox.take_in(presence("d1", "b1", online=True), 5)
    failed = inbox.drain()
    model.serve(Outcome.EDGE)
    inbox.take_in(telemetry(model.telemetry()), 6)
    inbox.take_in(presence("d1", "b1", online=False), 6)
    inbox.put_back(failed)
    batch = inbox.drain()
    assert [heard.sequence for heard in batch.telemetry] == [2]
    assert [heard.presence.online for heard in batch.presences] == [False]


def test_what_does_not_fit_into_a_batch_waits_on_and_what_has_waited_longest_comes_first() -> None:
    inbox = Inbox(10)
    models = [CountedModel(name, "b1") for name in ("d1", "d2", "d3")]
    for second, model in enumerate(models):
        inbox.take_in(of(model), second)
    inbox.take_in(presence("d4", "b1", online=True), 3)
    inbox.take_in(of(models[0]), 4)
    early, late = inbox.drain(2), inbox.drain(2)
    assert [(each.series.device_id, each.sequence) for each in early.telemetry] == [("d1", 2), ("d2", 1)]
    assert [each.series.device_id for each in late.telemetry] == ["d3"]
    assert (len(early.presences), len(late.presences)) == (1, 0)
    assert (early.telemetry[0].waits_since_s, early.telemetry[0].heard_s) == (0, 4)
    assert inbox.statistics().waiting == 0


def test_a_batch_that_could_not_be_booked_takes_its_place_before_what_waited_behind_it() -> None:
    inbox = Inbox(10)
    models = [CountedModel(name, "b1") for name in ("d1", "d2")]
    for second, model in enumerate(models):
        inbox.take_in(of(model), second)
    failed = inbox.drain(1)
    inbox.take_in(of(models[0]), 2)
    inbox.put_back(failed)
    told = [(each.series.device_id, each.sequence, each.waits_since_s) for each in inbox.drain().telemetry]
    assert told == [("d1", 2, 0), ("d2", 1, 1)]


@pytest.mark.parametrize("broken", [{"cloud_link": "a\0b"}, {"score_counts": (2**60,)}])
def test_a_malformed_message_takes_no_sound_ones_place(broken: dict[str, Any]) -> None:
    inbox, model = Inbox(10), CountedModel("d1", "b1")
    inbox.take_in(of(model), 1)
    inbox.take_in(telemetry(replace(model.telemetry(), **broken)), 2)
    assert [each.sequence for each in inbox.drain().telemetry] == [1]
    assert inbox.statistics().dropped == {"malformed": 1}


def test_what_an_earlier_boot_said_is_no_sign_of_life_once_a_later_one_has_been_booked() -> None:
    inbox = Inbox(10)
    for model in (CountedModel("d0", "b1"), CountedModel("d1", "b1"), CountedModel("d2", "b1")):
        inbox.take_in(of(model), 1)
    inbox.take_in(presence("d1", "b2", online=True), 2)
    inbox.drain(1)
    waiting = {each.series.device_id: each.retained for each in inbox.drain().telemetry}
    assert waiting == {"d1": True, "d2": False}


def test_it_says_when_it_is_full() -> None:
    inbox = Inbox(2)
    inbox.take_in(presence("d1", "b1", online=True), 5)
    assert not inbox.is_full
    inbox.take_in(presence("d2", "b1", online=True), 5)
    assert inbox.is_full
    inbox.drain()
    assert not inbox.is_full
