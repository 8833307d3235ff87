"""The pages of updates in a real browser, on a store as the rollout service would have written it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from playwright.sync_api import Page, expect

from cloud_service.access.roles import Role
from cloud_service.rollout.orders import abort
from cloud_service.rollout.plan import Comparison, Stage, Thresholds
from cloud_service.rollout.records import RolloutState
from shared.clock import SystemClock
from shared.update.assignment import place_of
from shared.update.report import ErrorKind, Phase
from tests.support.browser import needs_chromium
from tests.support.fleet_process import CloudRole, write_cloud_toml
from tests.support.rollout_parts import NEW, OLD, a_plan, a_report, broken, committed
from tests.support.rollout_scene import RolloutScene
from tests.support.site import PASSWORD, add_user, site_over

pytestmark = needs_chromium


@dataclass
class Fleet:
    """The web process, and the store that it shows."""

    web: CloudRole
    scene: RolloutScene


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("updates")
    config = write_cloud_toml(folder, 1)
    (folder / "data").mkdir()
    site = site_over(f"sqlite:///{folder / 'data' / 'fleet.sqlite'}", clock=SystemClock())
    for name, role in (("olga", Role.OPERATOR), ("vera", Role.VIEWER)):
        add_user(site, name, role)
    scene = RolloutScene(site.writing, int(time.time()))
    with CloudRole(config, "web") as web:
        yield Fleet(web, scene)
    site.close()


def sign_in(page: Page, fleet: Fleet, name: str, path: str) -> None:
    page.goto(f"{fleet.web.url}login?next=/{path}")
    page.locator("input[name=name]").fill(name)
    page.locator("input[name=password]").fill(PASSWORD)
    page.locator("main button[type=submit]").click()
    page.wait_for_url(f"**/{path}")


def halfway(scene: RolloutScene, rollout_id: str, ring: str, after: str) -> None:
    """Forty devices in the first ring, most of which have taken the release up; `after` has not been opened."""
    plan = a_plan(Stage(ring, 0.25), Stage(ring), Stage(after), soak_s=3600, thresholds=Thresholds(failure_share=0.5))
    names = [f"{ring}-{number:02}" for number in range(40)]
    scene.begin(rollout_id, plan, ago_s=7000)
    scene.turn(rollout_id, ago_s=7000)
    scene.hear(
        [a_report(name, ring=ring) for name in names] + [a_report(f"{after}-{n}", ring=after) for n in range(25)]
    )
    early = [name for name in names if place_of(rollout_id, name) < 0.25]
    scene.hear([committed(name, rollout_id, ring=ring) for name in early])
    for ago_s in (6900, 3000, 2990):
        scene.turn(rollout_id, ago_s=ago_s)
    scene.hear([committed(name, rollout_id, ring=ring) for name in names[:20]])
    scene.hear([broken(name, rollout_id, ring=ring) for name in names[20:23]], ago_s=900)
    scene.hear([broken(names[23], rollout_id, ring=ring, kind=ErrorKind.NO_ROOM)], ago_s=400)
    scene.hear([replace(a_report(name, rollout_id, ring=ring), phase=Phase.FETCHING) for name in names[24:30]])
    scene.turn(rollout_id, ago_s=30)
    scene.count(OLD.version, range(1, 110), ring=ring)
    scene.count(NEW.version, range(1, 40), ring=ring)
    scene.sign()


def test_an_operator_sees_a_ring_fill_and_pauses_it_with_one_click(fleet: Fleet, page: Page) -> None:
    halfway(fleet.scene, "r1", "canary", "stable")
    sign_in(page, fleet, "olga", "updates")
    page.locator("[data-rollout=r1] a").click()
    second = page.locator("[data-stage='2']")
    expect(second.locator("[data-figure=committed]")).to_have_attribute("data-value", "20")
    fleet.scene.hear([committed(f"canary-{number}", "r1") for number in range(24, 40)])
    fleet.scene.turn("r1")
    expect(second.locator("[data-figure=committed]")).to_have_attribute("data-value", "36")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("[data-figure=reason]")).to_have_text("paused by olga")
    expect(page.locator("[data-figure=state]")).to_have_attribute("data-value", "paused")


def test_an_abort_is_asked_for_and_shows_up_with_everybody_who_looks(fleet: Fleet, page: Page) -> None:
    halfway(fleet.scene, "r2", "press", "line")
    sign_in(page, fleet, "olga", "updates/r2")
    other = page.context.new_page()
    other.goto(fleet.web.url + "updates")
    expect(other.locator("[data-rollout=r2] .state")).not_to_have_text("aborted")
    page.get_by_role("button", name="Abort", exact=True).click()
    expect(page.locator(".changes")).to_contain_text(f"Ring press goes back to {OLD.version}.")
    page.get_by_role("button", name="Abort", exact=True).click()
    expect(page.locator("[data-figure=state]")).to_have_attribute("data-value", "aborted")
    expect(other.locator("[data-rollout=r2] .state")).to_have_text("aborted")
    page.goto(fleet.web.url + "log")
    expect(page.locator("main")).to_contain_text("rollout.abort")


def test_a_viewer_finds_no_button_and_an_order_of_hers_is_refused(fleet: Fleet, page: Page) -> None:
    fleet.scene.begin("r3", a_plan(Stage("quiet")))
    sign_in(page, fleet, "vera", "updates/r3")
    expect(page.get_by_role("button", name="Pause")).to_have_count(0)
    page.evaluate("document.body.dataset.mayAct = ''")
    token = page.locator("form.who input[name=csrf]").input_value()
    answer = page.request.post(
        fleet.web.url + "updates/r3/order",
        form={"order": "pause", "csrf": token},
        headers={"Origin": fleet.web.url.rstrip("/")},
    )
    assert answer.status == 403
    rollout = fleet.scene.reader.rollout("r3")
    assert rollout is not None and rollout.state is RolloutState.RUNNING


def test_the_pages_fit_a_phone_and_both_colour_schemes(fleet: Fleet, page: Page) -> None:
    scene = fleet.scene
    halfway(scene, "r4", "east", "west")
    plan = a_plan(Stage("lab", 0.5), Stage("lab"), comparison=Comparison(), soak_s=60)
    scene.begin("r5", plan, ago_s=7200)
    scene.turn("r5", ago_s=7200)
    scene.hear([committed(f"lab-{n}", "r5", ring="lab") for n in range(8)])
    scene.turn("r5", ago_s=3600)
    scene.count(OLD.version, range(1, 60), ring="lab", variant="a", wrong=2)
    scene.count(NEW.version, range(1, 60), ring="lab", variant="b", wrong=2)
    scene.begin("r6", a_plan(Stage("old")), ago_s=90_000)
    scene.change("r6", lambda it: abort(it, "anna", scene.now_s - 86_000))
    sign_in(page, fleet, "olga", "updates")
    for path in ("updates", "updates/r4", "updates/r5", "updates/r6"):
        for width, scheme in ((1280, "light"), (1280, "dark"), (390, "dark"), (320, "light")):
            page.set_viewport_size({"width": width, "height": 844})
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            page.goto(fleet.web.url + path)
            expect(page.locator("main .state").first).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, width, scheme)
