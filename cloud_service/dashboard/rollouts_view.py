"""What rings run, and the list of rollouts. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cloud_service.dashboard.rollout_order_view import state_words
from cloud_service.rollout.conditions import condition_words
from cloud_service.rollout.device_order import DeviceOrder
from cloud_service.rollout.records import Rollout
from cloud_service.rollout.ring_order import RingOrder
from cloud_service.storage.rollout_reader import RingShare
from shared.update.assignment import Arm, Assignment
from shared.update.report import UpdateReport

MOST_ROLLOUTS = 50
UNSIGNED_AFTER_S = 30
_TONES = 5
_NAMED_PINS = 5


@dataclass(frozen=True)
class RolloutsReading:
    """What the page needs. `shares`: by model. One rollout more than `MOST_ROLLOUTS` says that there are more."""

    rollouts: tuple[Rollout, ...] = ()
    orders: tuple[RingOrder, ...] = ()
    shares: Mapping[str, Sequence[RingShare]] | None = None
    pins: tuple[DeviceOrder, ...] = ()


@dataclass(frozen=True)
class ShareView:
    """Devices of a ring that run one version; `left` and `width` in percent of the ring's bar.

    `is_told`: it is what the ring is told to run. `tone`: which of the other colours it has.
    """

    version: str
    releases: tuple[int, ...]
    gates: tuple[str, ...]
    devices: int
    left: float
    width: float
    is_told: bool
    tone: int


@dataclass(frozen=True)
class RingView:
    """One ring and model. `told`: what it is to run, in words. `unsigned_s`: since when that waits for the director."""

    model: str
    ring: str
    devices: int
    shares: tuple[ShareView, ...]
    told: str
    rollout_id: str
    unsigned_s: int | None


@dataclass(frozen=True)
class RolloutRow:
    """One rollout; devices are those of its rings, as far as its stages reach."""

    rollout: Rollout
    state_words: str
    committed: int
    failed: int
    devices: int
    stages_passed: int


@dataclass(frozen=True)
class RolloutsView:
    """All that the page shows. `is_carried_out`: a rollout service is set up where this page's settings come from.

    `pinned`: which devices run a release of their own, in words; "" where none does.
    """

    rings: tuple[RingView, ...]
    pinned: str
    rows: tuple[RolloutRow, ...]
    is_more: bool
    is_unsigned_long: bool
    is_carried_out: bool
    now_s: int


def rollouts_view(reading: RolloutsReading, now_s: int, *, is_carried_out: bool) -> RolloutsView:
    """All rollouts at `now_s` (seconds since 1970-01-01 UTC)."""
    waiting_since_s = [order.decided_s for order in reading.orders if order.signed_s is None]
    waiting_since_s += [pin.decided_s for pin in reading.pins if pin.signed_s is None]
    return RolloutsView(
        rings=tuple(_rings(reading)),
        pinned=pinned_words(reading.pins),
        rows=tuple(_row(each) for each in reading.rollouts[:MOST_ROLLOUTS]),
        is_more=len(reading.rollouts) > MOST_ROLLOUTS,
        is_unsigned_long=any(now_s - since_s > UNSIGNED_AFTER_S for since_s in waiting_since_s),
        is_carried_out=is_carried_out,
        now_s=now_s,
    )


def pinned_words(pins: Sequence[DeviceOrder]) -> str:
    """How many devices take part in no rollout, and the first of them."""
    if not pins:
        return ""
    named = ", ".join(f"{pin.device_id} to {pin.model} {pin.version}" for pin in pins[:_NAMED_PINS])
    whom = (
        "1 device is pinned to a release of its own"
        if len(pins) == 1
        else (f"{len(pins)} devices are pinned to releases of their own")
    )
    more = ", …" if len(pins) > _NAMED_PINS else ""
    return f"{whom} and in no rollout: {named}{more}"


def told_words(assignment: Assignment | None) -> str:
    """What an assignment makes a ring run."""
    if assignment is None:
        return "nothing new"
    if any(arm.labels for arm in assignment.arms):
        return _told_by_labels(assignment.arms)
    words, since = [], 0.0
    for arm in assignment.arms:
        share = arm.share_until - since
        since = arm.share_until
        words.append(_arm_words(arm) if share >= 1.0 else f"{_arm_words(arm)} on {share:.0%}")
    return ", ".join(words) + (", the others as they are" if words and since < 1.0 else "")


def _told_by_labels(arms: Sequence[Arm]) -> str:
    """One after the other, as a device looks for the first that is meant for it."""
    words, is_whole = [], False
    for arm in arms:
        is_whole = arm.share_until >= 1.0 and not arm.labels
        share = "" if arm.share_until >= 1.0 else f"{arm.share_until:.0%} of "
        whom = f"those {condition_words(arm.labels)}" if arm.labels else "the devices"
        words.append(f"{_arm_words(arm)} on " + ("the others" if is_whole else share + whom))
    return ", ".join(words) + ("" if is_whole else ", the others as they are")


def _arm_words(arm: Arm) -> str:
    if arm.key_share:
        return f"{arm.version} for {arm.key_share:.0%} of requests by their key"
    return arm.version + (f" as a shadow of {arm.shadow_share:.0%} of requests" if arm.shadow_share else "")


def progress_words(report: UpdateReport) -> str:
    """How much of an update a device has fetched; "" where nothing is to be fetched."""
    if not report.bytes_to_fetch:
        return ""
    share = min(1.0, report.bytes_done / report.bytes_to_fetch)
    return f"{_bytes(report.bytes_done)} of {_bytes(report.bytes_to_fetch)} ({share:.0%})"


def _rings(reading: RolloutsReading) -> list[RingView]:
    told = {(order.model, order.ring): order for order in reading.orders}
    seen: dict[tuple[str, str], list[RingShare]] = {key: [] for key in told}
    for model, shares in (reading.shares or {}).items():
        for share in shares:
            seen.setdefault((model, share.ring), []).append(share)
    return [_ring(key, seen[key], told.get(key)) for key in sorted(seen)]


def _ring(key: tuple[str, str], shares: Sequence[RingShare], order: RingOrder | None) -> RingView:
    assignment = order.assignment if order else None
    return RingView(
        model=key[0],
        ring=key[1],
        devices=sum(each.devices for each in shares),
        shares=_shares(shares, assignment),
        told=told_words(assignment) if order else "",
        rollout_id=order.rollout_id if order else "",
        unsigned_s=order.decided_s if order and order.signed_s is None else None,
    )


def _shares(shares: Sequence[RingShare], assignment: Assignment | None) -> tuple[ShareView, ...]:
    """By version: first those that the ring is told to run, then the others, most devices first."""
    taken = [arm for arm in assignment.arms if not (arm.shadow_share or arm.key_share)] if assignment else []
    wanted = [arm.version for arm in taken]
    by_version: dict[str, list[RingShare]] = {}
    for each in shares:
        by_version.setdefault(each.version, []).append(each)
    devices = {version: sum(each.devices for each in found) for version, found in by_version.items()}
    order = sorted(by_version, key=lambda it: (wanted.index(it) if it in wanted else len(wanted), -devices[it], it))
    whole, left, views, tone = max(1, sum(devices.values())), 0.0, [], 0
    for version in order:
        found, width = by_version[version], 100.0 * devices[version] / whole
        releases = tuple(sorted({each.release for each in found}))
        gates = tuple(sorted({each.gate_digest for each in found}))
        is_told = bool(wanted) and version == wanted[0]
        views.append(
            ShareView(
                version, releases, gates, devices[version], round(left, 3), round(width, 3), is_told, tone % _TONES
            )
        )
        left, tone = left + width, tone + (not is_told)
    return tuple(views)


def _row(rollout: Rollout) -> RolloutRow:
    last = {stage.ring: told.figures for stage, told in zip(rollout.plan.stages, rollout.stages, strict=True)}
    return RolloutRow(
        rollout=rollout,
        state_words=state_words(rollout),
        committed=sum(each.committed for each in last.values()),
        failed=sum(each.failed for each in last.values()),
        devices=sum(each.eligible for each in last.values()),
        stages_passed=sum(1 for told in rollout.stages if told.state.value == "passed"),
    )


def _bytes(amount: int) -> str:
    for size, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if amount >= size:
            return f"{amount / size:.1f} {unit}"
    return f"{amount} bytes"
