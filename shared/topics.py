"""The MQTT topics, made and read in one place.

    tandem/v1/devices/<device>/presence                    retained, last will
    tandem/v1/devices/<device>/models/<model>/telemetry    retained, cumulative
    tandem/v1/devices/<device>/models/<model>/last/<slot>  retained, the last telemetry of a boot that has ended
    tandem/v1/rings/<ring>/models/<model>/gates/<digest>/policy  retained, from the fleet service

Everything a device may publish lies under its own prefix, so that one broker rule
(`pattern readwrite tandem/v1/devices/%u/#`) keeps devices apart; what a ring is told, all devices may read.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.errors import InputError, MessageError
from shared.types import checked_identifier

ROOT = "tandem/v1/devices"
RINGS = "tandem/v1/rings"
ALL_PRESENCE = f"{ROOT}/+/presence"
ALL_TELEMETRY = f"{ROOT}/+/models/+/telemetry"
ALL_LAST_WORDS = f"{ROOT}/+/models/+/last/+"
LAST_WORD_SLOTS = 4
"""Of so many ended boots a device's last words are kept at the broker; each new one takes the oldest one's slot."""

_TELEMETRY_ENDINGS = [["telemetry"], *(["last", str(slot)] for slot in range(LAST_WORD_SLOTS))]


@dataclass(frozen=True)
class DeviceTopic:
    """A topic taken apart; `model` is empty for topics that concern the whole device.

    `has_ended`: the telemetry is of a boot that has ended, and says nothing of who is there.
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
            if len(parts) in (7, 8) and parts[4] == "models" and parts[6:] in _TELEMETRY_ENDINGS:
                device_id, model = checked_identifier("device", parts[3]), checked_identifier("model", parts[5])
                return DeviceTopic(device_id, "telemetry", model, has_ended=parts[6] == "last")
    except InputError as error:
        raise MessageError(f"topic {topic!r}: {error}") from error
    raise MessageError(f"topic {topic!r} is none of Tandem's")
