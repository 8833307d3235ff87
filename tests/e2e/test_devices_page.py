"""The Devices pages in a real browser, on a store as the fleet service would have written it."""

from __future__ import annotations

import re
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from cloud_service.fleet.buckets import DAY_S, HOUR_S
from tests.support.browser import needs_chromium
from tests.support.fleet_process import CloudRole, write_cloud_toml
from tests.support.full_store import Extent, fill_store

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudRole]:
    """Ten thousand devices, their own counts of the last hours alone."""
    folder = tmp_path_factory.mktemp("devices")
    fill_store(folder / "data" / "fleet.sqlite", int(time.time()), Extent(10_000, 60, HOUR_S, DAY_S))
    with CloudRole(write_cloud_toml(folder, 1), "web") as web:
        yield web


def test_ten_thousand_devices_are_searched_sorted_and_paged(web: CloudRole, page: Page) -> None:
    page.goto(web.url + "devices")
    expect(page.locator("#devices-title")).to_have_text("10,000 found")
    expect(page.locator("tbody tr")).to_have_count(50)
    page.get_by_role("link", name="Next").click()
    expect(page).to_have_url(re.compile(r"\?page=2$"))
    expect(page.locator("tbody tr").first).to_contain_text("press-00050")
    page.get_by_label("Name contains").fill("0123")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#devices-title")).to_have_text("11 found")
    page.locator("thead").get_by_role("link", name="p99").click()
    expect(page).to_have_url(re.compile(r"\?q=0123&sort=-p99$"))
    expect(page.locator("[aria-sort=descending]")).to_contain_text("p99")


def test_refused_policies_are_found(web: CloudRole, page: Page) -> None:
    page.goto(web.url + "devices")
    page.locator("select[name=policy]").select_option("refused")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#devices-title")).to_have_text("20 found")
    expect(page.locator("tbody .policy").first).to_have_text("refused")


def test_a_devices_name_leads_to_its_page(web: CloudRole, page: Page) -> None:
    page.goto(web.url + "devices?policy=refused")
    page.get_by_role("link", name="press-00007").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("press-00007")
    expect(page.locator("main")).to_contain_text("alpha 0.07 is not certified")
    expect(page.locator("main")).to_contain_text("kept-disagreement ≤ 5.0%")
    page.get_by_role("link", name="last 7 days").click()
    expect(page).to_have_url(re.compile(r"press-00007\?range=7d$"))


def test_a_canarys_page_tells_what_was_decided_for_its_ring(web: CloudRole, page: Page) -> None:
    page.goto(web.url + "devices/press-00100")
    expect(page.locator(".log-of")).to_contain_text("policy-1 for intents in ring canary by watch")
    expect(page.locator(".log-of")).to_contain_text("disagree with the full model more often than promised")


def test_a_device_that_is_not_there_and_a_bad_address_are_told(web: CloudRole) -> None:
    for path, code in (("devices/nobody", 404), ("devices?sort=colour", 400), ("devices/press-00001?range=9d", 400)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            web.get(path)
        assert refused.value.code == code


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("path", ["devices", "devices/press-00007", "devices?q=nothing"])
def test_it_fits_a_phone(web: CloudRole, page: Page, path: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(web.url + path)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_an_empty_store_says_how_to_start_a_device(tmp_path: Path, page: Page) -> None:
    with CloudRole(write_cloud_toml(tmp_path, 1), "web") as web:
        page.goto(web.url + "devices")
        expect(page.locator("main")).to_contain_text("No device has reported yet")
