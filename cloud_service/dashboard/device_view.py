"""The rows of the table of devices. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cloud_service.dashboard.chart import ratio_of
from cloud_service.fleet.book import ModelState
from cloud_service.fleet.reading import DeviceReading
from cloud_service.fleet.tally import NOTHING, p99_ms

_LINK_WORDS = {"closed": "connected", "open": "cut off", "half_open": "trying again", "none": "no cloud set"}


@dataclass(frozen=True)
class DeviceRow:
    """One model on one device; a device without a model has one row too. Counts are of the shown stretch.

    `presence` is online, silent (no word for long) or offline; `last_seen_s` in seconds since 1970-01-01 UTC.
    """

    device_id: str
    presence: str
    last_seen_s: int | None
    agent_version: str
    model: str
    model_version: str
    accepted: int
    wanted: int
    offload_ratio: float | None
    p99_ms: float | None
    cloud_link: str
    cloud_link_words: str
    gate_score: str
    gate_threshold: float | None


def device_rows(devices: Iterable[DeviceReading], seen_since_s: int) -> tuple[DeviceRow, ...]:
    """All rows, in the order of `devices`. Who was not seen since `seen_since_s` is silent."""
    return tuple(_row(device, state, seen_since_s) for device in devices for state in (device.models or (None,)))


def presence_of(device: DeviceReading, seen_since_s: int) -> str:
    """`online`, `silent` or `offline`."""
    if not device.state.is_online:
        return "offline"
    last_seen_s = device.state.last_seen_s
    return "online" if last_seen_s is not None and last_seen_s >= seen_since_s else "silent"


def _row(device: DeviceReading, state: ModelState | None, seen_since_s: int) -> DeviceRow:
    tally = device.tallies.get(state.series.model, NOTHING) if state else NOTHING
    return DeviceRow(
        device_id=device.state.device_id,
        presence=presence_of(device, seen_since_s),
        last_seen_s=device.state.last_seen_s,
        agent_version=device.state.agent_version,
        model=state.series.model if state else "",
        model_version=state.series.model_version if state else "",
        accepted=tally.counters.accepted,
        wanted=tally.counters.wanted,
        offload_ratio=ratio_of(tally),
        p99_ms=p99_ms(tally),
        cloud_link=state.cloud_link if state else "",
        cloud_link_words=_LINK_WORDS.get(state.cloud_link, state.cloud_link) if state else "",
        gate_score=state.gate.score if state else "",
        gate_threshold=state.gate.threshold if state else None,
    )
