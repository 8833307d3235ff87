from __future__ import annotations

import pytest

from cloud_service.dashboard.risk_progress import Stand, progress_of
from cloud_service.fleet.risk_reading import GateUser
from cloud_service.watch.records import IssuedPolicy
from shared.types import GatePolicy, GateReport

POLICY = GatePolicy("p2", 2, "banking77", "gate")
NOW_S = 10_000


def user(name: str, *, ring: str = "canary", seen_s: int | None = NOW_S, **report: str) -> GateUser:
    told = GateReport(**{"digest": "gate", **report})  # type: ignore[arg-type]
    return GateUser(name, ring, True, seen_s, "7", told)


def test_each_device_of_the_ring_is_counted_once_by_what_it_says() -> None:
    users = (
        user("a", policy_id="p2"),
        user("b", refused_policy_id="p2", refusal="not certified here"),
        user("c", policy_id="p1"),
        user("d", seen_s=1),
        user("e", digest="other"),
        user("f", ring="everyone", policy_id="p2"),
    )
    progress = progress_of(IssuedPolicy(POLICY, "canary", 0, 1), users, NOW_S - 60)
    assert (progress.obeyed, progress.refused, progress.waiting, progress.silent, progress.others) == (1, 1, 1, 1, 1)
    assert progress.online == 3
    assert [(each.device_id, each.stand) for each in progress.named] == [
        ("b", Stand.REFUSED),
        ("c", Stand.WAITING),
        ("d", Stand.SILENT),
    ]
    assert progress.named[0].words == "not certified here"
    assert progress.stage == "refused"


@pytest.mark.parametrize(
    ("published_s", "policy_ids", "stage"),
    [(None, ["p1"], "asked"), (5, ["p2", "p1"], "published"), (5, ["p2", "p2"], "obeyed"), (5, [], "published")],
)
def test_the_stage_is_how_far_the_slowest_present_device_is(
    published_s: int | None, policy_ids: list[str], stage: str
) -> None:
    users = [user(f"d{place}", policy_id=policy_id) for place, policy_id in enumerate(policy_ids)]
    assert progress_of(IssuedPolicy(POLICY, "canary", 0, published_s), users, NOW_S - 60).stage == stage


def test_of_many_only_some_are_named_and_the_rest_is_counted() -> None:
    users = [user(f"d{place}") for place in range(300)]
    progress = progress_of(IssuedPolicy(POLICY, "canary", 0, 1), users, NOW_S - 60)
    assert len(progress.named) + progress.unnamed == progress.waiting == 300
