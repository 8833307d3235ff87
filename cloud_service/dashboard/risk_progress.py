"""How far a policy is: asked, published, obeyed or refused by each device of its ring. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from cloud_service.fleet.risk_reading import MOST_NAMED, GateUsers, Laggard
from cloud_service.watch.records import IssuedPolicy


class Stand(str, Enum):
    """What a device made of a policy. `waiting`: online, and it has not said yet; `silent`: offline or not heard."""

    OBEYED = "obeyed"
    REFUSED = "refused"
    WAITING = "waiting"
    SILENT = "silent"


@dataclass(frozen=True)
class DeviceStand:
    """One device; `words` is its reason where it refused."""

    device_id: str
    stand: Stand
    words: str
    last_seen_s: int | None


@dataclass(frozen=True)
class Progress:
    """One policy on its way. `online` devices of the ring run its gate; `others` run another gate of the model.

    `named` lists, up to a limit, who did not obey, refusals first; `unnamed` how many more there are.
    """

    issued: IssuedPolicy
    obeyed: int
    refused: int
    waiting: int
    silent: int
    others: int
    named: tuple[DeviceStand, ...]
    unnamed: int

    @property
    def online(self) -> int:
        """How many devices could obey now."""
        return self.obeyed + self.refused + self.waiting

    @property
    def stage(self) -> str:
        """`asked`, `published`, `refused` (by some), or `obeyed` (by all that are online)."""
        if self.issued.published_s is None:
            return "asked"
        if self.refused:
            return "refused"
        return "obeyed" if self.obeyed and not self.waiting else "published"


def progress_of(issued: IssuedPolicy, users: Sequence[GateUsers], laggards: Sequence[Laggard]) -> Progress:
    """Count the devices of the policy's ring, and name some of the `laggards`."""
    ring = [each for each in users if each.ring == issued.ring]
    own = [each for each in ring if each.report.digest == issued.policy.gate_digest]
    amount = dict.fromkeys(Stand, 0)
    for each in own:
        amount[_stand(each, issued.policy.policy_id)] += each.devices
    behind = sum(amount.values()) - amount[Stand.OBEYED]
    named = tuple(_named(each, issued.policy.policy_id) for each in laggards[:MOST_NAMED])
    return Progress(
        issued=issued,
        obeyed=amount[Stand.OBEYED],
        refused=amount[Stand.REFUSED],
        waiting=amount[Stand.WAITING],
        silent=amount[Stand.SILENT],
        others=sum(each.devices for each in ring) - sum(amount.values()),
        named=named,
        unnamed=max(0, behind - len(named)),
    )


def _stand(user: GateUsers | Laggard, policy_id: str) -> Stand:
    if not user.is_present:
        return Stand.SILENT
    if user.report.policy_id == policy_id:
        return Stand.OBEYED
    return Stand.REFUSED if user.report.refused_policy_id == policy_id else Stand.WAITING


def _named(device: Laggard, policy_id: str) -> DeviceStand:
    stand = _stand(device, policy_id)
    words = {
        Stand.SILENT: "not heard for long" if device.is_online else "offline",
        Stand.REFUSED: device.report.refusal,
        Stand.WAITING: "has not reported it yet",
    }
    return DeviceStand(device.device_id, stand, words.get(stand, ""), device.last_seen_s)
