"""Who is there. Pure.

A device's own word (and the last will that the broker keeps for it) decides. The will of an earlier boot may
arrive, or be retained, after a later boot has begun: it says nothing of the later one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from shared.types import DEFAULT_RING, ModelTelemetry, Presence


@dataclass(frozen=True)
class DeviceState:
    """What is known of one device. Times are the server's, in seconds since 1970-01-01 UTC.

    `last_seen_s` is None until the device has been heard live, not only through what the broker retained.
    """

    device_id: str
    boot_id: str
    is_online: bool
    agent_version: str
    first_heard_s: int
    last_seen_s: int | None = None
    ring: str = DEFAULT_RING


def after_presence(state: DeviceState | None, presence: Presence, now_s: int, *, retained: bool) -> DeviceState:
    """The state once `presence` was heard. `retained`: the broker kept it from before we subscribed."""
    if state is None:
        state = DeviceState(presence.device_id, presence.boot_id, presence.online, presence.agent_version, now_s)
        state = replace(state, ring=presence.ring)
    if not presence.online:
        is_present_boot = presence.boot_id == state.boot_id
        return replace(state, is_online=False, agent_version=presence.agent_version) if is_present_boot else state
    return replace(
        state,
        boot_id=presence.boot_id,
        is_online=True,
        agent_version=presence.agent_version,
        last_seen_s=state.last_seen_s if retained else now_s,
        ring=presence.ring,
    )


def after_telemetry(state: DeviceState | None, telemetry: ModelTelemetry, now_s: int, *, retained: bool) -> DeviceState:
    """The state once newer counts were heard. Live ones of another boot prove that this boot is running now."""
    boot_id, ring = telemetry.boot_id, telemetry.ring
    if state is None:
        state = DeviceState(telemetry.device_id, boot_id, not retained, "", now_s, ring=ring)
    if retained:
        return state
    if boot_id != state.boot_id:
        state = replace(state, boot_id=boot_id, is_online=True)
    return replace(state, last_seen_s=now_s, ring=ring)
