from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from cloud_service.access.action_log import Entry
from cloud_service.access.roles import Role
from cloud_service.dashboard.site import Site
from cloud_service.rollout.device_order import DeviceOrder
from cloud_service.rollout.plan import Comparison, Stage, Thresholds
from cloud_service.rollout.records import RolloutState
from cloud_service.rollout.telling import arm_of
from cloud_service.storage.action_store import ActionLog, Wanted
from cloud_service.storage.rollout_pins import PinStore
from shared.update.assignment import Assignment, place_of
from shared.update.report import ErrorKind, Phase, TrialFigures
from tests.support.rollout_parts import MODEL, NEW, OLD, a_plan, a_report, broken, committed, installed
from tests.support.rollout_scene import RolloutScene
from tests.support.site import OWN, add_user, csrf_of, sign_in, site_over, sqlite_url, talk_to
from tests.support.watched_gates import WatchedGates

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = site_over(sqlite_url(tmp_path))
    add_user(site, "olga", Role.OPERATOR)
    add_user(site, "vera", Role.VIEWER)
    yield site
    site.close()


@pytest.fixture
def scene(site: Site) -> RolloutScene:
    return RolloutScene(site.writing, site.now_ms() // 1000)


def halfway(scene: RolloutScene) -> None:
    """Of four canaries two have it, one is at it and one failed; the ring "stable" has not been opened."""
    lenient = Thresholds(min_devices=2, success_share=0.6, failure_share=0.5)
    scene.begin("r1", a_plan(thresholds=lenient), ago_s=600)
    scene.hear([a_report(f"d{number}", ring="stable") for number in range(6)])
    scene.turn("r1", ago_s=500)
    scene.hear([committed("c1", "r1"), committed("c2", "r1"), broken("c3", "r1")])
    scene.hear([replace(a_report("c4", "r1", phase=Phase.FETCHING), bytes_done=5_000, bytes_to_fetch=20_000)])
    scene.turn("r1", ago_s=20)


async def post(client: httpx.AsyncClient, path: str, **fields: str) -> httpx.Response:
    token = csrf_of((await client.get("/updates")).text)
    return await client.post(path, data={**fields, "csrf": token}, headers=OWN)


async def ordered(client: httpx.AsyncClient, order: str, rollout_id: str = "r1") -> httpx.Response:
    """Asked, and confirmed as the page that asks has it."""
    asked = await post(client, f"/updates/{rollout_id}/confirm", order=order)
    assert asked.status_code == 200, asked.text
    return await post(client, f"/updates/{rollout_id}/order", order=order, seen=seen_of(asked.text))


def seen_of(page: str) -> str:
    """What the page that asks says it was asked of."""
    (seen,) = re.findall(r'name="seen" value="([^"]*)"', page)
    return str(seen)


def row_of(page: str, key: str) -> str:
    """One keyed row of a page, without its tags."""
    start = page.index(f'data-key="{key}"')
    return re.sub(r"<[^>]*>", "", page[page.index(">", start) + 1 : page.index("</tr>", start)])


async def test_without_a_rollout_the_page_says_how_to_begin(site: Site, scene: RolloutScene) -> None:
    async with talk_to(site) as client:
        await sign_in(client, "vera")
        assert "cloud-service rollout start" in (await client.get("/updates")).text
        scene.hear([a_report("c1"), a_report("c2", active=NEW)])
        page = (await client.get("/updates")).text
        assert "No rollout yet" in page and "nothing yet" in page
        assert (await client.get("/updates/none")).status_code == 404


async def test_a_store_that_is_not_set_up_holds_no_rollouts(tmp_path: Path) -> None:
    site = site_over(sqlite_url(tmp_path), is_set_up=False)
    async with talk_to(site) as client:
        assert "No rollout yet" in (await client.get("/updates")).text
        assert (await client.get("/updates/r1")).status_code == 404
    site.close()


async def test_the_list_shows_what_rings_run_and_every_rollout_with_its_reason(site: Site, scene: RolloutScene) -> None:
    halfway(scene)
    async with talk_to(site) as client:
        await sign_in(client, "vera")
        page = (await client.get("/updates")).text
        canary = row_of(page, f"{MODEL}/canary")
        assert "waits for the director" in canary and "An order waits for the director" in page
        scene.sign()
        page = (await client.get("/updates")).text
    assert "waits for the director" not in page
    assert 'class="told" x="0.0%" width="50.0%"' in page
    assert "soaking" in row_of(page, "r1") and "watched for 60 s" in row_of(page, "r1")
    assert "2 of 10" in row_of(page, "r1")


async def test_a_rollouts_page_shows_its_stages_bounds_and_failures(site: Site, scene: RolloutScene) -> None:
    halfway(scene)
    scene.count(OLD.version, range(1, 30))
    scene.count(NEW.version, range(1, 8))
    async with talk_to(site) as client:
        await sign_in(client, "vera")
        page = (await client.get("/updates/r1")).text
    assert "watched for another 40 s" in page
    assert 'data-figure="committed" data-value="2"' in page and 'data-figure="broken" data-value="1"' in page
    assert "1 of 3, judged from 3 failures on" in row_of(page, "Failed")
    assert "1.00×" in row_of(page, "Latency, new to old") and "within" in row_of(page, "Latency, new to old")
    assert "audited answers" in row_of(page, "Disagreement")
    assert "it is proving" in row_of(page, "c3") and "failed the proving" in row_of(page, "c3")


async def test_one_click_pauses_and_the_log_says_who(site: Site, scene: RolloutScene) -> None:
    halfway(scene)
    async with talk_to(site) as client:
        await sign_in(client, "olga")
        answer = await post(client, "/updates/r1/order", order="pause")
        assert (answer.status_code, answer.headers["location"]) == (303, "/updates/r1")
        page = (await client.get("/updates/r1")).text
        assert "paused by olga" in page and 'value="resume"' in page and 'value="pause"' not in page
        again = await post(client, "/updates/r1/order", order="pause")
        assert again.status_code == 422 and "cannot be paused" in again.text
    (entry,) = ActionLog(site.reading).read(Wanted(10, action="rollout.pause"))
    assert (entry.entry.actor, entry.entry.role) == ("olga", "operator")


async def test_what_cannot_be_taken_back_is_asked_for_first(site: Site, scene: RolloutScene) -> None:
    halfway(scene)
    async with talk_to(site) as client:
        await sign_in(client, "olga")
        asked = await post(client, "/updates/r1/confirm", order="abort")
        assert f"Ring canary goes back to {OLD.version}." in asked.text and "Ring stable" not in asked.text
        assert 'value="abort_keep"' in asked.text
        assert scene.reader.rollouts()[0].state is RolloutState.SOAKING
        assert (await ordered(client, "abort")).status_code == 303
        refused = await post(client, "/updates/r1/confirm", order="promote")
        assert refused.status_code == 422 and "is aborted" in refused.text
        assert (await post(client, "/updates/r1/confirm", order="explode")).status_code == 422
    assert scene.reader.rollouts()[0].state is RolloutState.ABORTED


@pytest.mark.parametrize(
    ("orders", "state"),
    [
        (("promote",), RolloutState.RUNNING),
        (("abort_keep",), RolloutState.ABORTED),
        (("rollback",), RolloutState.ROLLED_BACK),
        (("promote", "promote", "rollback"), RolloutState.ROLLED_BACK),
    ],
)
async def test_each_order_is_carried_out(
    site: Site, scene: RolloutScene, orders: tuple[str, ...], state: RolloutState
) -> None:
    halfway(scene)
    async with talk_to(site) as client:
        await sign_in(client, "olga")
        for order in orders:
            assert (await ordered(client, order)).status_code == 303
    assert scene.reader.rollouts()[0].state is state


async def test_a_second_click_does_not_promote_the_next_stage_too(site: Site, scene: RolloutScene) -> None:
    halfway(scene)
    async with talk_to(site) as client:
        await sign_in(client, "olga")
        asked = await post(client, "/updates/r1/confirm", order="promote")
        assert "Ring stable is opened at once" in asked.text and "1 failed devices are accepted" in asked.text
        for status in (303, 422):
            again = await post(client, "/updates/r1/order", order="promote", seen=seen_of(asked.text))
            assert again.status_code == status
    assert "has gone on since" in again.text
    assert scene.reader.rollouts()[0].current == 1


async def test_another_person_approves(site: Site, scene: RolloutScene) -> None:
    scene.begin("r1", a_plan(needs_approval=True), by="olga")
    scene.begin("r2", a_plan(Stage("other"), needs_approval=True), by="anna")
    async with talk_to(site) as client:
        await sign_in(client, "olga")
        refused = await ordered(client, "approve", "r1")
        assert refused.status_code == 422 and "another person" in refused.text
        assert (await ordered(client, "approve", "r2")).status_code == 303
        assert "approved by olga" in (await client.get("/updates/r2")).text


async def test_a_viewer_may_look_and_order_nothing(site: Site, scene: RolloutScene) -> None:
    halfway(scene)
    async with talk_to(site) as client:
        await sign_in(client, "vera")
        page = (await client.get("/updates/r1")).text
        assert "data-may-act" not in page and 'id="orders"' not in page
        for path in ("/updates/r1/order", "/updates/r1/confirm"):
            assert (await post(client, path, order="pause")).status_code == 403
    assert scene.reader.rollouts()[0].state is RolloutState.SOAKING


async def test_both_arms_of_an_a_b_test_stand_beside_each_other(site: Site, scene: RolloutScene) -> None:
    stages = (Stage("canary", 0.5), Stage("canary"))
    scene.begin("r1", a_plan(*stages, comparison=Comparison(margin=0.02)), ago_s=7200)
    scene.hear([a_report(f"d{number}") for number in range(10)])
    scene.turn("r1", ago_s=7200)
    arms = {f"d{number}": place_of("r1", f"d{number}") < 0.5 for number in range(10)}
    scene.hear([committed(name, "r1") if is_new else a_report(name, "r1") for name, is_new in arms.items()])
    scene.turn("r1", ago_s=3600)
    scene.count(OLD.version, range(1, 60), variant="a", wrong=1)
    scene.count(NEW.version, range(1, 60), variant="b", wrong=12)
    async with talk_to(site) as client:
        await sign_in(client, "vera")
        page = (await client.get("/updates/r1")).text
    assert 'data-verdict="drop"' in page and "the verdict waits for you" in page
    assert "40.0%" in page and "3.3%" in page
    assert "A/B test by device in ring canary" in page and "of devices</small>" in page


async def test_an_a_b_test_by_key_says_what_share_of_the_requests_each_release_answers(
    site: Site, scene: RolloutScene
) -> None:
    scene.begin("r1", a_plan(Stage("canary", key_share=0.3), Stage("canary"), comparison=Comparison()), ago_s=7200)
    scene.hear([a_report(f"d{number}") for number in range(3)])
    scene.turn("r1", ago_s=7200)
    trial = TrialFigures(requests=100)
    scene.hear([a_report(f"d{number}", "r1", phase=Phase.SPLIT, trial=trial) for number in range(3)])
    scene.turn("r1", ago_s=3600)
    scene.count(OLD.version, range(1, 60), wrong=1)
    scene.count(NEW.version, range(1, 60), wrong=12)
    async with talk_to(site) as client:
        await sign_in(client, "vera")
        page = (await client.get("/updates/r1")).text
        ring = row_of((await client.get("/updates")).text, f"{MODEL}/canary")
    assert 'data-verdict="drop"' in page and "A/B test by request key in ring canary" in page
    assert "new, 30.0% of requests</small>" in page and "old, 70.0% of requests</small>" in page
    assert "40.0%" in page and "3.3%" in page
    assert f"{NEW.version} for 30% of requests by their key" in ring


async def test_failures_are_shown_a_page_at_a_time(site: Site, scene: RolloutScene) -> None:
    scene.begin("r1", a_plan())
    scene.turn("r1")
    scene.hear([broken(f"d{number:02}", "r1", kind=ErrorKind.NO_ROOM) for number in range(30)])
    async with talk_to(site) as client:
        await sign_in(client, "vera")
        first = (await client.get("/updates/r1")).text
        second = (await client.get("/updates/r1?failures=2")).text
        assert (await client.get("/updates/r1?failures=0")).status_code == 400
        assert "beyond the last" in (await client.get("/updates/r1?failures=9")).text
    assert first.count('href="/devices/d') == 25 and second.count('href="/devices/d') == 5
    assert "in ring canary no room for it" in first and 'href="?failures=2#failures-title"' in first


async def test_a_devices_page_says_how_far_its_update_is(site: Site, scene: RolloutScene) -> None:
    field = WatchedGates(site.writing, scene.now_s)
    field.add_device("press-1")
    report = a_report("press-1", "r1", phase=Phase.FETCHING, error_kind=ErrorKind.FETCH)
    told = replace(report, model=field.known.model, candidate=installed(NEW), bytes_done=500, bytes_to_fetch=2000)
    async with talk_to(site) as client:
        await sign_in(client, "vera")
        assert "data-update" not in (await client.get("/devices/press-1")).text
        scene.hear([told])
        page = re.sub(r"\s+", " ", (await client.get("/devices/press-1")).text)
    assert 'data-update="fetching"' in page and "slot a: 1, release 1" in page
    assert "candidate 2, release 2, 500 bytes of 2.0 kB (25%) fetched" in page and "it is fetch" in page


async def test_the_pages_say_which_labels_a_stage_is_for(site: Site, scene: RolloutScene) -> None:
    berlin = {"site": ("berlin", "paris")}
    scene.begin("r1", a_plan(Stage("canary", 0.5, labels=berlin), Stage("canary")))
    scene.hear([a_report("d1", labels={"site": "berlin"}), a_report("d2", labels={"site": "rome"})])
    scene.turn("r1")
    async with talk_to(site) as client:
        await sign_in(client, "vera")
        page = (await client.get("/updates/r1")).text
        assert "1. Ring canary, 50% of its devices whose site is berlin or paris" in page
        ring = row_of((await client.get("/updates")).text, f"{MODEL}/canary")
    assert "2 on 50% of those whose site is berlin or paris, 1 on the others" in ring


async def test_a_devices_page_says_its_labels(site: Site, scene: RolloutScene) -> None:
    field = WatchedGates(site.writing, scene.now_s)
    field.add_device("press-1")
    report = a_report("press-1", labels={"site": "berlin", "line": "3"})
    scene.hear([replace(report, model=field.known.model)])
    async with talk_to(site) as client:
        await sign_in(client, "vera")
        assert "labels line 3, site berlin" in (await client.get("/devices/press-1")).text


async def test_the_pages_say_which_devices_are_pinned(site: Site, scene: RolloutScene) -> None:
    halfway(scene)
    assignment = Assignment(MODEL, "pin-1", 0, 1, (arm_of(OLD),))
    order = DeviceOrder("dock-1", MODEL, "pin-1", 0, assignment, scene.now_s, "anna")
    async with talk_to(site) as client:
        await sign_in(client, "vera")
        assert "pinned" not in (await client.get("/updates")).text
        PinStore(site.writing).pin(order, Entry(1, "anna", "operator", "rollout.pin", "dock-1"), most=1)
        page = (await client.get("/updates")).text
    assert f"1 device is pinned to a release of its own and in no rollout: dock-1 to {MODEL} {OLD.version}" in page


async def test_a_devices_page_says_that_it_is_pinned(site: Site, scene: RolloutScene) -> None:
    field = WatchedGates(site.writing, scene.now_s)
    field.add_device("press-1")
    scene.hear([replace(a_report("press-1", "pin-20300131-abc123"), model=field.known.model)])
    async with talk_to(site) as client:
        await sign_in(client, "vera")
        page = (await client.get("/devices/press-1")).text
    assert "pinned to a release of its own by pin-20300131-abc123" in page
    assert 'href="/updates/pin-' not in page
