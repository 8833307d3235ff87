"""The MQTT topics, made and read in one place.

    tandem/v1/devices/<device>/presence                    retained, last will
    tandem/v1/devices/<device>/models/<model>/telemetry    retained, cumulative
    tandem/v1/devices/<device>/models/<model>/last/<slot>  retained, the last telemetry of a series that is not active
    tandem/v1/devices/<device>/models/<model>/reported     retained, what it runs and how far an update has come
    tandem/v1/devices/<device>/models/<model>/desired      retained, from the director: look what you are to run
    tandem/v1/devices/<device>/blocks/request              from the device to the publishers of blocks
    tandem/v1/devices/<device>/blocks/data                 from a publisher to the device
    tandem/v1/rings/<ring>/models/<model>/gates/<digest>/policy  retained, from the fleet service
    tandem/v1/rings/<ring>/models/<model>/desired          retained, from the director
    tandem/v1/publishers/<publisher>                       retained, last will

Everything a device may publish lies under its own prefix, so that one broker rule
(`pattern readwrite tandem/v1/devices/%u/#`) keeps devices apart; what a ring is told, all devices may read.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.errors import InputError, MessageError
from shared.types import checked_identifier

ROOT = "tandem/v1/devices"
RINGS = "tandem/v1/rings"
PUBLISHERS = "tandem/v1/publishers"
ALL_PUBLISHERS = f"{PUBLISHERS}/+"
ALL_BLOCK_REQUESTS = f"{ROOT}/+/blocks/request"
ALL_REPORTED = f"{ROOT}/+/models/+/reported"
ALL_PRESENCE = f"{ROOT}/+/presence"
ALL_TELEMETRY = f"{ROOT}/+/models/+/telemetry"
ALL_LAST_WORDS = f"{ROOT}/+/models/+/last/+"
LAST_WORD_SLOTS = 4
"""Of so many ended boots a device's last words are kept at the broker; each new one takes the oldest one's slot."""

_TELEMETRY_ENDINGS = [["telemetry"], *(["last", str(slot)] for slot in range(LAST_WORD_SLOTS))]


@dataclass(frozen=True)
class DeviceTopic:
    """A topic taken apart; `model` is empty for topics that concern the whole device.

    `has_ended`: the telemetry is of a boot or release that has ended, or of one that answers beside the active one; it
    says nothing of who is there.
    """

    device_id: str
    kind: str
    model: str = ""
    has_ended: bool = False


def presence(device_id: str) -> str:
    """Where a device says that it is there."""
    return f"{ROOT}/{checked_identifier('device', device_id)}/presence"


def telemetry(device_id: str, model: str) -> str:
    """Where a device reports one model's cumulative counters."""
    return f"{ROOT}/{checked_identifier('device', device_id)}/models/{checked_identifier('model', model)}/telemetry"


def last_word(device_id: str, model: str, slot: int) -> str:
    """Where a device repeats the last telemetry of a boot that has ended; `slot` counts from 0 to `LAST_WORD_SLOTS`."""
    if not 0 <= slot < LAST_WORD_SLOTS:
        raise InputError(f"slot {slot} is none of {LAST_WORD_SLOTS}")
    return f"{ROOT}/{checked_identifier('device', device_id)}/models/{checked_identifier('model', model)}/last/{slot}"


def policy(ring: str, model: str, gate_digest: str) -> str:
    """Where a ring's devices are told which of a gate's certified thresholds holds.

    Each gate has its own, as a ring may run several bundles of a model: word for one takes no other one's place.
    """
    place = f"{checked_identifier('ring', ring)}/models/{checked_identifier('model', model)}"
    return f"{RINGS}/{place}/gates/{checked_identifier('gate', gate_digest)}/policy"


def reported(device_id: str, model: str) -> str:
    """Where a device says what it runs of a model and how far an update has come."""
    return f"{ROOT}/{checked_identifier('device', device_id)}/models/{checked_identifier('model', model)}/reported"


def desired(device_id: str, model: str) -> str:
    """Where one device is told to look up what it is to run."""
    return f"{ROOT}/{checked_identifier('device', device_id)}/models/{checked_identifier('model', model)}/desired"


def ring_desired(ring: str, model: str) -> str:
    """Where a ring's devices are told to look up what they are to run."""
    return f"{RINGS}/{checked_identifier('ring', ring)}/models/{checked_identifier('model', model)}/desired"


def block_request(device_id: str) -> str:
    """Where a device asks for blocks."""
    return f"{ROOT}/{checked_identifier('device', device_id)}/blocks/request"


def block_data(device_id: str) -> str:
    """Where a device is sent the blocks that it asked for."""
    return f"{ROOT}/{checked_identifier('device', device_id)}/blocks/data"


def publisher(publisher_id: str) -> str:
    """Where a publisher of blocks says that it is there."""
    return f"{PUBLISHERS}/{checked_identifier('publisher', publisher_id)}"


def parse(topic: str) -> DeviceTopic:
    """Take a device's topic apart.

    Raises:
        MessageError: it is none of the topics above.
    """
    parts = topic.split("/")
    try:
        if topic.startswith(ROOT + "/"):
            if len(parts) == 5 and parts[4] == "presence":
                return DeviceTopic(checked_identifier("device", parts[3]), "presence")
            if len(parts) == 6 and parts[4:] == ["blocks", "request"]:
                return DeviceTopic(checked_identifier("device", parts[3]), "blocks")
            if len(parts) == 7 and parts[4] == "models" and parts[6] == "reported":
                device_id, model = checked_identifier("device", parts[3]), checked_identifier("model", parts[5])
                return DeviceTopic(device_id, "reported", model)
            if len(parts) in (7, 8) and parts[4] == "models" and parts[6:] in _TELEMETRY_ENDINGS:
                device_id, model = checked_identifier("device", parts[3]), checked_identifier("model", parts[5])
                return DeviceTopic(device_id, "telemetry", model, has_ended=parts[6] == "last")
    except InputError as error:
        raise MessageError(f"topic {topic!r}: {error}") from error
    raise MessageError(f"topic {topic!r} is none of Tandem's")
