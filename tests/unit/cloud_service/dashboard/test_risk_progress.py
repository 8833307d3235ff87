from __future__ import annotations

import pytest

from cloud_service.dashboard.risk_progress import Stand, progress_of
from cloud_service.fleet.risk_reading import MOST_NAMED, GateUsers, Laggard
from cloud_service.watch.records import IssuedPolicy
from shared.types import GatePolicy, GateReport

POLICY = GatePolicy("p2", 2, "banking77", "gate")


def report(**told: str) -> GateReport:
    return GateReport(**{"digest": "gate", **told})  # type: ignore[arg-type]


def users(devices: int = 1, *, ring: str = "canary", is_present: bool = True, **told: str) -> GateUsers:
    return GateUsers(ring, is_present, report(**told), devices)


def laggard(name: str, *, is_present: bool = True, is_online: bool = True, **told: str) -> Laggard:
    return Laggard(name, is_online, is_present, 1, report(**told))


def test_each_device_of_the_ring_is_counted_once_by_what_it_says() -> None:
    said = (
        users(40, policy_id="p2"),
        users(2, refused_policy_id="p2", refusal="not certified here"),
        users(5, policy_id="p1"),
        users(7, is_present=False, policy_id="p2"),
        users(3, digest="other"),
        users(100, ring="everyone", policy_id="p2"),
    )
    progress = progress_of(IssuedPolicy(POLICY, "canary", 0, 1), said, ())
    assert (progress.obeyed, progress.refused, progress.waiting, progress.silent, progress.others) == (40, 2, 5, 7, 3)
    assert progress.online == 47 and progress.unnamed == 14
    assert progress.stage == "refused"


def test_who_lags_behind_is_named_with_the_reason() -> None:
    behind = (
        laggard("b", refused_policy_id="p2", refusal="not certified here"),
        laggard("c", policy_id="p1"),
        laggard("d", is_present=False, policy_id="p2"),
        laggard("e", is_present=False, is_online=False),
    )
    said = (users(1, refused_policy_id="p2"), users(1, policy_id="p1"), users(2, is_present=False))
    progress = progress_of(IssuedPolicy(POLICY, "canary", 0, 1), said, behind)
    assert [(each.device_id, each.stand, each.words) for each in progress.named] == [
        ("b", Stand.REFUSED, "not certified here"),
        ("c", Stand.WAITING, "has not reported it yet"),
        ("d", Stand.SILENT, "not heard for long"),
        ("e", Stand.SILENT, "offline"),
    ]
    assert progress.unnamed == 0


@pytest.mark.parametrize(
    ("published_s", "policy_ids", "stage"),
    [(None, ["p1"], "asked"), (5, ["p2", "p1"], "published"), (5, ["p2", "p2"], "obeyed"), (5, [], "published")],
)
def test_the_stage_is_how_far_the_slowest_present_device_is(
    published_s: int | None, policy_ids: list[str], stage: str
) -> None:
    said = [users(policy_id=policy_id) for policy_id in policy_ids]
    assert progress_of(IssuedPolicy(POLICY, "canary", 0, published_s), said, ()).stage == stage


def test_of_many_only_some_are_named_and_the_rest_is_counted() -> None:
    behind = [laggard(f"d{place}") for place in range(MOST_NAMED)]
    progress = progress_of(IssuedPolicy(POLICY, "canary", 0, 1), [users(300)], behind)
    assert len(progress.named) + progress.unnamed == progress.waiting == 300
