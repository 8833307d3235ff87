"""MQTT 3.1.1's packets (OASIS standard, sections 2 and 3), as far as a client with QoS 1 needs them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from shared.errors import MessageError

CONNACK, PUBLISH, PUBACK, SUBACK, PINGRESP = 0x20, 0x30, 0x40, 0x90, 0xD0
PINGREQ_PACKET, DISCONNECT_PACKET = b"\xc0\x00", b"\xe0\x00"
MAX_PACKET_BYTES = 4 << 20
"""A broker that sends more is not believed; the largest message of ours is far smaller."""

_QOS_1 = 0x02
_RETAIN = 0x01
_LONGEST_STRING = 65_535
_REFUSALS = {
    1: "it does not speak MQTT 3.1.1",
    2: "it refuses the client id",
    3: "it is not available",
    4: "bad user name or password",
    5: "not authorized",
}


@dataclass(frozen=True)
class Message:
    """One message; `retained` says that it was published before we subscribed."""

    topic: str
    payload: bytes
    retained: bool = False


@dataclass(frozen=True)
class Arrival:
    """A message as it came. `identifier` is what its acknowledgement names; 0: none is wanted."""

    message: Message
    identifier: int


class PacketReader:
    """Cuts the stream of bytes into packets: first byte (kind and flags) and body."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The packets that are complete now.

        Raises:
            MessageError: this is no MQTT, or a packet has more than `MAX_PACKET_BYTES`.
        """
        data = self._rest + data if self._rest else data
        packets, position, end = [], 0, len(data)
        while position + 1 < end:
            length, begins = data[position + 1], position + 2
            if length & 0x80:
                size = _long_length(data, position + 1)
                if size is None:
                    break
                length, begins = size
            if begins + length > end:
                break
            packets.append((data[position], data[begins : begins + length]))
            position = begins + length
        self._rest = data[position:]
        return packets


def connect_packet(
    client_id: str, keepalive_s: int, *, username: str | None, password: str | None, will: Message | None
) -> bytes:
    """CONNECT (3.1) with a clean session; the will is retained, with QoS 1."""
    will_flags, clean_session = (0x2C if will else 0), 0x02
    flags = clean_session | will_flags | (0x80 if username is not None else 0) | (0x40 if password is not None else 0)
    body = _string("MQTT") + bytes([4, flags]) + keepalive_s.to_bytes(2, "big") + _string(client_id)
    if will:
        body += _string(will.topic) + _sized(will.payload)
    body += b"".join(_string(word) for word in (username, password) if word is not None)
    return _packet(0x10, body)


def subscribe_packet(identifier: int, topic_filter: str) -> bytes:
    """SUBSCRIBE (3.8) to one filter with QoS 1."""
    return _packet(0x82, identifier.to_bytes(2, "big") + _string(topic_filter) + b"\x01")


def publish_packet(identifier: int, topic: str, payload: bytes, *, retain: bool) -> bytes:
    """PUBLISH (3.3) with QoS 1."""
    first = PUBLISH | _QOS_1 | (_RETAIN if retain else 0)
    return _packet(first, _string(topic) + identifier.to_bytes(2, "big") + payload)


def puback_packet(identifier: int) -> bytes:
    """PUBACK (3.4)."""
    return b"\x40\x02" + identifier.to_bytes(2, "big")


def arrival(first: int, body: bytes) -> Arrival:
    """A PUBLISH taken apart.

    Raises:
        MessageError: it is malformed, or of QoS 2, for which we never ask.
    """
    begins = 2 + (body[0] << 8 | body[1]) if len(body) >= 2 else len(body) + 1
    try:
        topic = body[2:begins].decode()
    except UnicodeDecodeError as error:
        raise MessageError("a topic is not UTF-8") from error
    identifier = 0
    if first & 0x06:
        begins += 2
        identifier = int.from_bytes(body[begins - 2 : begins], "big")
    if begins > len(body) or first & 0x04 or bool(identifier) != bool(first & _QOS_1):
        raise MessageError("a PUBLISH packet is malformed")
    return Arrival(Message(topic, body[begins:], bool(first & _RETAIN)), identifier)


def refusal_of(connack: bytes) -> str | None:
    """Why the broker does not take us, by its CONNACK (3.2); None: it does.

    Raises:
        MessageError: it is malformed.
    """
    if len(connack) != 2:
        raise MessageError("a CONNACK packet is malformed")
    return None if connack[1] == 0 else _REFUSALS.get(connack[1], f"it refuses with code {connack[1]}")


def identifier_of(body: bytes) -> int:
    """Which packet an acknowledgement names.

    Raises:
        MessageError: it is malformed.
    """
    if len(body) < 2:
        raise MessageError("an acknowledgement is malformed")
    return int.from_bytes(body[:2], "big")


def _long_length(data: bytes, position: int) -> tuple[int, int] | None:
    """The remaining length, seven bits a byte (2.2.3), and where the body begins; None: not all of it is there."""
    length = 0
    for place in range(4):
        if position + place >= len(data):
            return None
        digit = data[position + place]
        length |= (digit & 0x7F) << 7 * place
        if not digit & 0x80:
            if length > MAX_PACKET_BYTES:
                raise MessageError(f"a packet of {length} bytes is more than {MAX_PACKET_BYTES}")
            return length, position + place + 1
    raise MessageError("a packet's length has more than four bytes")


def _packet(first: int, body: bytes) -> bytes:
    length, digits = len(body), []
    while True:
        length, digit = divmod(length, 128)
        digits.append(digit | (0x80 if length else 0))
        if not length:
            return bytes([first, *digits]) + body


def _string(text: str) -> bytes:
    return _sized(text.encode())


def _sized(data: bytes) -> bytes:
    if len(data) > _LONGEST_STRING:
        raise MessageError(f"{len(data)} bytes are more than a field of MQTT holds")
    return len(data).to_bytes(2, "big") + data
