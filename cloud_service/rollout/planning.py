"""From what an operator wishes to a plan: which releases, in which stages, and what to go back to. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cloud_service.registry.catalogue import ListedRelease
from cloud_service.rollout.durations import parse_duration
from cloud_service.rollout.plan import Comparison, Fallback, Plan, Release, Stage, checked_plan
from cloud_service.rollout.plan_file import PlanFile
from cloud_service.rollout.ring_order import RingOrder
from cloud_service.rollout.telling import release_of
from shared.errors import RolloutError
from shared.update.labels import LabelCondition


@dataclass(frozen=True)
class Wish:
    """What is asked for; what is None or empty is as `file` says.

    By ring, what goes first of it: `shares` of its devices, or those alone whose labels meet `labels`; with both, a
    share of these, then all of these. `before`: the version that rings go back to of which nothing is known.
    `by_key`: an A/B test's share is of each device's requests, by their key.
    """

    model: str
    version: str
    file: PlanFile
    rings: tuple[str, ...] = ()
    shares: Mapping[str, float] = field(default_factory=dict)
    soak: str | None = None
    shadow_share: float | None = None
    gate: str | None = None
    min_devices: int | None = None
    not_before_s: int = 0
    needs_approval: bool = False
    before: str | None = None
    without_fallback: bool = False
    comparison: Comparison | None = None
    labels: Mapping[str, LabelCondition] = field(default_factory=dict)
    by_key: bool = False


def make_plan(wish: Wish, releases: Sequence[ListedRelease], orders: Sequence[RingOrder]) -> Plan:
    """The plan. `releases`: those of the model that the registry lists; `orders`: what rings run of it now.

    Raises:
        RolloutError: a release or gate is not listed, devices would refuse it as it is below the version floor, a ring
            has nothing to go back to, or the plan cannot be followed.
    """
    listed, stages = _listed(releases, wish.version), _stages(wish)
    _check_floor(listed, stages, orders)
    thresholds = wish.file.thresholds
    if wish.min_devices is not None:
        thresholds = replace(thresholds, min_devices=wish.min_devices)
    plan = Plan(
        wish.model,
        _release(listed, wish.gate),
        stages,
        _fallbacks(wish, stages, releases, orders),
        parse_duration(wish.soak or wish.file.soak),
        thresholds,
        wish.file.gates,
        wish.file.trial,
        wish.file.hardware or listed.hardware,
        wish.not_before_s,
        tuple(section.window() for section in wish.file.windows),
        wish.needs_approval or wish.file.needs_approval,
        wish.file.on_failure,
        wish.comparison,
    )
    return checked_plan(plan)


def _stages(wish: Wish) -> tuple[Stage, ...]:
    stages: list[Stage] = []
    for option, named in (("--share", set(wish.shares)), ("--labels", set(wish.labels))):
        if unknown := named - set(wish.rings):
            raise RolloutError(f"{option} names ring {min(unknown)}, which --rings does not")
    for ring in wish.rings:
        share, labels = wish.shares.get(ring, 1.0), wish.labels.get(ring, {})
        stages += _split_stages(ring, share, labels) if wish.by_key else _stages_of(ring, share, labels)
    chosen = stages or list(wish.file.stages)
    if not chosen:
        raise RolloutError("name the rings with --rings, or the stages in a plan")
    if wish.by_key and not stages:
        raise RolloutError("--by key needs its ring in --rings; in a plan a first stage with key_share says the same")
    if wish.shadow_share is not None:
        chosen.insert(0, replace(chosen[0], shadow_share=wish.shadow_share))
    return tuple(chosen)


def _stages_of(ring: str, share: float, labels: LabelCondition) -> list[Stage]:
    """Ever more of a ring's devices: a share of those that are meant, all of these, all of the ring."""
    stages = [Stage(ring, share, labels=labels)]
    if labels and share != 1.0:
        stages.append(Stage(ring, labels=labels))
    return stages if stages[-1].is_whole else [*stages, Stage(ring)]


def _split_stages(ring: str, share: float, labels: LabelCondition) -> list[Stage]:
    return [Stage(ring, labels=labels, key_share=share), Stage(ring)]


def _fallbacks(
    wish: Wish, stages: Sequence[Stage], releases: Sequence[ListedRelease], orders: Sequence[RingOrder]
) -> tuple[Fallback, ...]:
    told = {order.ring: order.assignment for order in orders if order.model == wish.model}
    found = []
    for ring in dict.fromkeys(stage.ring for stage in stages):
        assignment = told.get(ring)
        release = release_of(assignment) if assignment else None
        if wish.comparison and release and release.version != wish.before:
            if stages[0].key_share:
                raise _not_what_runs(ring, release.version, wish.before)
            release = None
        if release is not None:
            _listed(releases, release.version)
        elif wish.before:
            release = _release(_listed(releases, wish.before), None)
        if release is not None:
            found.append(Fallback(ring, release))
        elif not wish.without_fallback:
            raise RolloutError(
                f"it is not known what ring {ring} would go back to: publish what its devices run and name it with "
                "--from VERSION, or begin --without-fallback"
            )
    return tuple(found)


def _not_what_runs(ring: str, runs: str, wanted: str | None) -> RolloutError:
    """A test by key compares with what devices run, and tells them nothing to run beside the release."""
    return RolloutError(
        f"ring {ring} runs {runs}, not {wanted}: name what it runs as VERSION_A, take the ring to {wanted} first, or "
        "test by device"
    )


def _check_floor(listed: ListedRelease, stages: Sequence[Stage], orders: Sequence[RingOrder]) -> None:
    rings = {stage.ring for stage in stages}
    for order in orders:
        assignment = order.assignment
        if listed.is_excepted or assignment is None or order.ring not in rings or assignment.model != listed.model:
            continue
        if listed.release < assignment.floor:
            raise RolloutError(
                f"{listed.version} is release {listed.release}, and devices of ring {order.ring} take none below "
                f"{assignment.floor}: allow it with `cloud-service registry allow {listed.model}@{listed.version}`"
            )


def _listed(releases: Sequence[ListedRelease], version: str) -> ListedRelease:
    for release in releases:
        if release.version == version:
            return release
    known = ", ".join(release.version for release in releases) or "none"
    raise RolloutError(f"release {version} is not published; published are {known}")


def checked_release(releases: Sequence[ListedRelease], version: str, gate: str | None) -> tuple[ListedRelease, Release]:
    """The listed release of this version, with its newest gate or the one whose digest begins like `gate`.

    Raises:
        RolloutError: the release or gate is not listed, or `gate` fits several.
    """
    listed = _listed(releases, version)
    return listed, _release(listed, gate)


def _release(listed: ListedRelease, gate: str | None) -> Release:
    fitting = [digest for digest in listed.gates if gate is None or digest.startswith(gate)]
    if gate is not None and len(fitting) != 1:
        raise RolloutError(f"gate {gate} is none, or not the only one, of {listed.model} {listed.version}")
    return Release(listed.version, listed.manifest_sha256, fitting[0] if fitting else "", listed.release)
