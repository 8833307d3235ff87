"""How far a policy is: asked, published, obeyed or refused by each device of its ring. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from cloud_service.fleet.risk_reading import GateUser
from cloud_service.watch.records import IssuedPolicy

_MOST_NAMED = 50


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


def progress_of(issued: IssuedPolicy, users: Sequence[GateUser], seen_since_s: int) -> Progress:
    """Count and name the devices of the policy's ring. Who was not seen since `seen_since_s` is silent."""
    ring = [user for user in users if user.ring == issued.ring]
    own = [user for user in ring if user.report.digest == issued.policy.gate_digest]
    stands = [_stand(user, issued.policy.policy_id, seen_since_s) for user in own]
    amount = {stand: sum(1 for each in stands if each.stand is stand) for stand in Stand}
    rest = [each for stand in (Stand.REFUSED, Stand.WAITING, Stand.SILENT) for each in stands if each.stand is stand]
    return Progress(
        issued=issued,
        obeyed=amount[Stand.OBEYED],
        refused=amount[Stand.REFUSED],
        waiting=amount[Stand.WAITING],
        silent=amount[Stand.SILENT],
        others=len(ring) - len(own),
        named=tuple(rest[:_MOST_NAMED]),
        unnamed=max(0, len(rest) - _MOST_NAMED),
    )


def is_present(user: GateUser, seen_since_s: int) -> bool:
    """Whether a device is online and was heard of late."""
    return user.is_online and user.last_seen_s is not None and user.last_seen_s >= seen_since_s


def _stand(user: GateUser, policy_id: str, seen_since_s: int) -> DeviceStand:
    if not is_present(user, seen_since_s):
        words = "offline" if not user.is_online else "not heard for long"
        return DeviceStand(user.device_id, Stand.SILENT, words, user.last_seen_s)
    if user.report.policy_id == policy_id:
        return DeviceStand(user.device_id, Stand.OBEYED, "", user.last_seen_s)
    if user.report.refused_policy_id == policy_id:
        return DeviceStand(user.device_id, Stand.REFUSED, user.report.refusal, user.last_seen_s)
    return DeviceStand(user.device_id, Stand.WAITING, "has not reported it yet", user.last_seen_s)
