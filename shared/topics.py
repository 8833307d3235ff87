"""The MQTT topics, made and read in one place.

    tandem/v1/devices/<device>/presence                    retained, last will
    tandem/v1/devices/<device>/models/<model>/telemetry    retained, cumulative
    tandem/v1/rings/<ring>/models/<model>/policy           retained, from the fleet service

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


@dataclass(frozen=True)
class DeviceTopic:
    """A topic taken apart; `model` is empty for topics that concern the whole device."""

    device_id: str
    kind: str
    model: str = ""


def presence(device_id: str) -> str:
    """Where a device says that it is there."""
    return f"{ROOT}/{checked_identifier('device', device_id)}/presence"


def telemetry(device_id: str, model: str) -> str:
    """Where a device reports one model's cumulative counters."""
    return f"{ROOT}/{checked_identifier('device', device_id)}/models/{checked_identifier('model', model)}/telemetry"


def policy(ring: str, model: str) -> str:
    """Where a ring's devices are told which of a gate's certified thresholds holds."""
    return f"{RINGS}/{checked_identifier('ring', ring)}/models/{checked_identifier('model', model)}/policy"


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
            if len(parts) == 7 and parts[4] == "models" and parts[6] == "telemetry":
                return DeviceTopic(
                    checked_identifier("device", parts[3]), "telemetry", checked_identifier("model", parts[5])
                )
    except InputError as error:
        raise MessageError(f"topic {topic!r}: {error}") from error
    raise MessageError(f"topic {topic!r} is none of Tandem's")
