"""The operator's page in a real browser, fed by real processes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from shared.types import Outcome
from tests.support.browser import needs_chromium
from tests.support.fleet_process import CloudRole, write_cloud_toml
from tests.support.mosquitto import EXECUTABLE, Mosquitto
from tests.support.simulated_device import SimulatedDevice

pytestmark = [
    pytest.mark.skipif(EXECUTABLE is None, reason="mosquitto is not installed"),
    needs_chromium,
]


@dataclass
class Stage:
    """Broker, fleet service and page, with two devices that have reported."""

    broker: Mosquitto
    fleet: CloudRole
    web: CloudRole
    one: SimulatedDevice
    two: SimulatedDevice


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """For tests that change or break it."""
    with set_up(tmp_path) as stage:
        yield stage


@pytest.fixture(scope="module")
def calm_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """For tests that only look."""
    with set_up(tmp_path_factory.mktemp("calm")) as stage:
        yield stage


@contextmanager
def set_up(folder: Path) -> Iterator[Stage]:
    with Mosquitto(folder / "broker") as broker:
        config = write_cloud_toml(folder, broker.port)
        with (
            CloudRole(config, "fleet") as fleet,
            CloudRole(config, "web") as web,
            SimulatedDevice(broker.port, "press-1") as one,
            SimulatedDevice(broker.port, "press-2", version="2.1") as two,
        ):
            one.model.serve(Outcome.EDGE, 80, latency_ms=4.0)
            one.model.serve(Outcome.CLOUD, 15, latency_ms=40.0)
            one.model.serve(Outcome.DEGRADED, 5, latency_ms=80.0)
            two.model.serve(Outcome.EDGE, 100, latency_ms=4.0)
            two.model.reject(4)
            for device in (one, two):
                device.report()
            yield Stage(broker, fleet, web, one, two)


def figure(page: Page, key: str, value: int) -> None:
    """Wait until the page shows `value` under `key`."""
    expect(page.locator(f'[data-figure="{key}"]')).to_have_attribute("data-value", str(value))


def test_the_page_shows_what_devices_reported_and_follows_them_live(stage: Stage, page: Page) -> None:
    page.goto(stage.web.url)
    expect(page).to_have_title("Fleet · Tandem")
    for key, value in {
        "received": 204,
        "rejected": 4,
        "accepted": 200,
        "edge": 180,
        "cloud": 15,
        "degraded": 5,
    }.items():
        figure(page, f"all_{key}", value)
        figure(page, f"shown_{key}", value)
    expect(page.locator("[data-figure=offload_now]")).to_have_text("10.0%")
    expect(page.locator("#headline")).to_contain_text("in the last minute: wanted 20 of 200 accepted")
    expect(page.locator("[data-figure=p99_degraded]")).to_have_text(re.compile(r"^(7|8|9)\d\.\d ms$"))
    row = page.locator("[data-device=press-2]")
    expect(row).to_contain_text("2.1")
    expect(row).to_contain_text("online")
    expect(row).to_contain_text("connected")

    page.evaluate("window.isSamePage = true")
    stage.two.model.serve(Outcome.CLOUD, 50)
    stage.two.report()
    expect(page.locator("[data-figure=offload_all_time_text]")).to_have_text("wanted 70 of 250 accepted")
    figure(page, "all_served", 65)
    assert page.evaluate("window.isSamePage")


def test_a_device_that_dies_goes_offline_on_the_page(stage: Stage, page: Page) -> None:
    page.goto(stage.web.url)
    figure(page, "devices_online", 2)
    stage.one.kill()
    expect(page.locator("[data-device=press-1] .presence")).to_have_text("offline")
    figure(page, "devices_online", 1)
    expect(page.locator("[data-device=press-2] .presence")).to_have_text("online")


def test_the_operator_is_told_when_broker_or_fleet_service_or_the_page_itself_is_gone(stage: Stage, page: Page) -> None:
    page.goto(stage.web.url)
    figure(page, "all_accepted", 200)
    expect(page.locator(".notice:visible")).to_have_count(0)
    stage.broker.kill()
    expect(page.locator("[data-notice=no_broker]")).to_contain_text(f"127.0.0.1:{stage.broker.port} is not reachable")
    stage.fleet.kill()
    expect(page.locator("[data-notice=stale]")).to_contain_text("has written nothing")
    figure(page, "all_accepted", 200)
    stage.web.kill()
    expect(page.locator("#lost")).to_be_visible()


def test_a_store_that_nobody_has_set_up_is_no_error_page(tmp_path: Path, page: Page) -> None:
    config = write_cloud_toml(tmp_path, 1)
    with CloudRole(config, "web") as web:
        page.goto(web.url)
        expect(page.locator("[data-notice=not_ready]")).to_contain_text("cloud-service serve")
        expect(page.locator("#devices")).to_contain_text("No device has reported yet")
        with CloudRole(config, "fleet"):
            expect(page.locator("[data-notice=no_broker]")).to_be_visible()
            expect(page.locator("[data-notice=not_ready]")).to_have_count(0)
        assert web.terminate() == 0


def test_the_page_fits_a_phone_and_both_colour_schemes(calm_stage: Stage, page: Page) -> None:
    grounds = set()
    for width in (1280, 768, 390, 320):
        for scheme in ("light", "dark"):
            page.set_viewport_size({"width": width, "height": 844})
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            page.goto(calm_stage.web.url)
            figure(page, "all_accepted", 200)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (width, scheme)
            grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2


def test_charts_can_be_read_with_the_keyboard_and_as_a_table(stage: Stage, page: Page) -> None:
    page.goto(stage.web.url + "?range=1h")
    figure(page, "all_accepted", 200)
    chart = page.locator("[data-key=offload]")
    readout = chart.locator(".readout")
    chart.locator(".plot").focus()
    told = set()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
        told.add(readout.text_content())
    assert len(told) == 3
    chart.locator("summary").click()
    stage.one.model.serve(Outcome.EDGE, 1)
    stage.one.report()
    figure(page, "all_accepted", 201)
    expect(chart.locator("tbody")).to_contain_text("accepted")
    expect(chart.locator("tbody")).to_be_visible()


def test_the_stretch_of_time_is_part_of_the_address(calm_stage: Stage, page: Page) -> None:
    page.goto(calm_stage.web.url)
    page.get_by_role("link", name="last 24 hours").click()
    expect(page).to_have_url(re.compile(r"\?range=24h$"))
    expect(page.locator("nav [aria-current=true]")).to_have_text("24h")
    expect(page.locator("#headline")).to_contain_text("Last 24 hours")
    figure(page, "shown_accepted", 200)


def test_times_are_in_the_viewers_zone_and_the_page_says_so(calm_stage: Stage, page: Page) -> None:
    page.goto(calm_stage.web.url)
    expect(page.locator("#zone")).to_have_text("Asia/Shanghai")
    seen = page.locator("[data-device=press-1] time")
    expect(seen).to_have_text(re.compile(r"^\d\d:\d\d:\d\d$"))
    local = page.evaluate("new Intl.DateTimeFormat(undefined, {hour: '2-digit', hourCycle: 'h23'}).format(new Date())")
    assert (seen.text_content() or "").startswith(local[:2]) or "59:" in (seen.text_content() or "")
