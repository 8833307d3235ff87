"""From an operator's wish to a pin: one device runs a release, whatever its ring is told. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cloud_service.registry.catalogue import ListedRelease
from cloud_service.rollout.planning import checked_release
from cloud_service.rollout.ring_order import RingOrder
from cloud_service.rollout.telling import arm_of
from shared.errors import RolloutError
from shared.types import checked_identifier
from shared.update.assignment import Assignment, Trial
from shared.update.report import UpdateReport

SHORT_TRIAL = Trial(requests=10, longest_s=60.0)
"""A device on a bench may have little traffic: its trial ends after a minute at the latest."""


@dataclass(frozen=True)
class PinWish:
    """What is asked for. `gate`: the beginning of a gate's digest; None takes the release's newest."""

    device_id: str
    model: str
    version: str
    gate: str | None = None
    trial: Trial = SHORT_TRIAL


def make_pin(
    wish: PinWish,
    pin_id: str,
    releases: Sequence[ListedRelease],
    orders: Sequence[RingOrder],
    report: UpdateReport | None,
) -> Assignment:
    """The assignment, whose sequence is still to be given.

    `releases`: those of the model that are listed; `orders`: what rings run of it; `report`: the device's newest word
    on it. The floor lies at the lowest of any ring, so that the device can follow its ring again, whichever that is
    then.

    Raises:
        InputError: a name is none.
        RolloutError: the release or gate is not listed, is for other hardware, or lies below the floor of the device's
            ring with no signed exception.
    """
    checked_identifier("device", wish.device_id)
    listed, release = checked_release(releases, wish.version, wish.gate)
    if report is not None:
        _check_fits(listed, report, orders)
    floors = [order.assignment.floor for order in orders if order.assignment]
    floor = min(release.release, *floors) if floors else 0
    return Assignment(wish.model, pin_id, 0, floor, (arm_of(release),), listed.hardware, wish.trial)


def _check_fits(listed: ListedRelease, report: UpdateReport, orders: Sequence[RingOrder]) -> None:
    what = f"{listed.model} {listed.version}"
    if listed.hardware and report.hardware not in listed.hardware:
        raise RolloutError(f"{what} is for {', '.join(listed.hardware)}, and {report.device_id} is {report.hardware}")
    told = next((order.assignment for order in orders if order.ring == report.ring), None)
    if told is not None and listed.release < told.floor and not listed.is_excepted:
        raise RolloutError(
            f"{what} is release {listed.release}, and devices of ring {report.ring} take none below {told.floor}: "
            f"allow it with `cloud-service registry allow {listed.model}@{listed.version}`"
        )
