"""MQTT's packets: cut anywhere, taken apart exactly, and nothing malformed is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import MessageError
from shared.mqtt_packets import (
    MAX_PACKET_BYTES,
    Arrival,
    Message,
    PacketReader,
    arrival,
    connect_packet,
    puback_packet,
    publish_packet,
    refusal_of,
    subscribe_packet,
)

_PAYLOADS = st.lists(st.binary(max_size=300), min_size=1, max_size=8)


@given(_PAYLOADS, st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_packets_are_whole_however_the_stream_was_cut(payloads: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(publish_packet(7, "a/b", payload, retain=True) for payload in payloads)
    reader, heard, position, turn = PacketReader(), [], 0, 0
    while position < len(stream):
        step = cuts[turn % len(cuts)]
        heard += reader.feed(stream[position : position + step])
        position, turn = position + step, turn + 1
    assert [arrival(*packet) for packet in heard] == [Arrival(Message("a/b", each, True), 7) for each in payloads]


@pytest.mark.parametrize("size", [0, 1, 118, 119, 120, 16_373, 16_374, 16_375, 2_097_141, 2_097_142])
def test_lengths_around_every_digit_are_read_back(size: int) -> None:
    ((first, body),) = PacketReader().feed(publish_packet(65_535, "topic", b"x" * size, retain=False))
    assert arrival(first, body) == Arrival(Message("topic", b"x" * size, False), 65_535)


def test_the_packets_are_those_of_the_standard() -> None:
    will = Message("w", b"gone")
    assert connect_packet("id", 20, username=None, password=None, will=None).hex() == "100e00044d515454040200140002" + (
        b"id".hex()
    )
    assert connect_packet("id", 20, username="u", password="p", will=will)[9] == 0b1110_1110
    assert subscribe_packet(1, "a/#").hex() == "8208000100" + "03612f2301"
    assert puback_packet(258).hex() == "40020102"


def test_a_message_without_acknowledgement_has_no_identifier() -> None:
    assert arrival(0x30, b"\x00\x01tpayload") == Arrival(Message("t", b"payload"), 0)


@pytest.mark.parametrize(
    ("first", "body"),
    [
        (0x32, b""),
        (0x32, b"\x00"),
        (0x32, b"\x00\x09short"),
        (0x32, b"\x00\x01t"),
        (0x32, b"\x00\x01t\x00\x00"),
        (0x34, b"\x00\x01t\x00\x01"),
        (0x32, b"\x00\x02\xff\xfe\x00\x01"),
    ],
)
def test_a_malformed_message_is_not_believed(first: int, body: bytes) -> None:
    with pytest.raises(MessageError):
        arrival(first, body)


def test_a_packet_that_is_too_long_is_refused_before_it_has_arrived() -> None:
    with pytest.raises(MessageError, match=str(MAX_PACKET_BYTES)):
        PacketReader().feed(b"\x30\xff\xff\xff\x7f")
    with pytest.raises(MessageError, match="four bytes"):
        PacketReader().feed(b"\x30\xff\xff\xff\xff\x7f")


def test_a_refusal_says_why() -> None:
    assert refusal_of(b"\x00\x00") is None
    assert refusal_of(b"\x00\x05") == "not authorized"
    assert refusal_of(b"\x00\x63") == "it refuses with code 99"
    with pytest.raises(MessageError):
        refusal_of(b"\x00")


def test_a_topic_longer_than_a_field_is_an_error_here() -> None:
    with pytest.raises(MessageError):
        publish_packet(1, "x" * 70_000, b"", retain=False)
