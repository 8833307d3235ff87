"""The Offload page in a real browser, on a store as the fleet service would have written it."""

from __future__ import annotations

import csv
import io
import re
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from cloud_service.fleet.buckets import DAY_S, HOUR_S
from tests.support.browser import needs_chromium
from tests.support.fleet_process import CloudRole, write_cloud_toml
from tests.support.full_store import Extent, fill_store

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudRole]:
    """Sixty devices over two months."""
    folder = tmp_path_factory.mktemp("offload")
    fill_store(folder / "data" / "fleet.sqlite", int(time.time()), Extent(60, HOUR_S, 2 * DAY_S, 9 * DAY_S))
    with CloudRole(write_cloud_toml(folder, 1), "web") as web:
        yield web


def test_each_dimension_has_its_table_and_its_chart(web: CloudRole, page: Page) -> None:
    page.goto(web.url + "offload")
    for name in ("Device", "Ring", "Model version", "Variant", "Reason", "Label"):
        page.get_by_label("Told apart by").get_by_role("link", name=name, exact=True).click()
        expect(page.locator("#table-title")).to_have_text(f"By {name.lower()}")
        expect(page.locator("tr.whole")).to_have_count(1)
        expect(page.locator(".chart .empty")).to_have_count(0)
    expect(page.locator("[data-row=rest]")).to_contain_text("57 others")


def test_what_the_form_asks_for_becomes_the_address_and_nothing_else(web: CloudRole, page: Page) -> None:
    page.goto(web.url + "offload")
    page.locator("select[name=ring]").select_option("canary")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile(r"/offload\?ring=canary$"))
    expect(page.locator("tbody [data-row=canary]")).to_have_count(1)
    expect(page.locator("tbody [data-row=everyone]")).to_have_count(0)


def test_two_values_stand_side_by_side_with_the_interval_named(web: CloudRole, page: Page) -> None:
    page.goto(web.url + "offload?by=version&range=7d")
    page.get_by_text("Compare", exact=True).first.click()
    page.locator("input[name=left]").fill("intents/7")
    page.locator("input[name=right]").fill("intents/8")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("[data-figure=difference]")).to_contain_text("95% interval")
    expect(page.locator("#compared")).to_contain_text("Newcombe")
    page.get_by_role("link", name="No comparison").click()
    expect(page.locator("#compared")).to_have_count(0)


def test_the_stretch_before_is_compared_row_by_row(web: CloudRole, page: Page) -> None:
    page.goto(web.url + "offload?against=before")
    expect(page.locator("tr.whole td[data-label=Difference]")).to_contain_text("pp")


def test_the_permalink_shows_the_same_view_again(web: CloudRole, page: Page) -> None:
    page.goto(web.url + "offload?by=device&range=7d&ring=everyone")
    shown = page.locator("table.slices").inner_text()
    page.get_by_role("link", name="Permalink").click()
    expect(page).to_have_url(re.compile(r"from=.*&to=.*&ring=everyone"))
    assert page.locator("table.slices").inner_text() == shown


def test_the_export_holds_exactly_the_rows_that_are_shown(web: CloudRole, page: Page) -> None:
    page.goto(web.url + "offload?by=label&range=7d")
    names = page.locator("table.slices tbody th").all_inner_texts()
    rows = list(csv.DictReader(io.StringIO(web.get("offload.csv?by=label&range=7d"), newline="")))
    assert [row["label"] for row in rows] == names
    assert sum(int(row["accepted"]) for row in rows[:-1]) == int(rows[-1]["accepted"])


def test_a_bad_address_says_what_is_wrong(web: CloudRole) -> None:
    for query, text in (("by=colour", "by must be one of"), ("from=x", "from must be a time")):
        with pytest.raises(urllib.error.HTTPError) as refused:
            web.get(f"offload?{query}")
        assert refused.value.code == 400 and text in refused.value.read().decode()


def test_it_works_without_any_script(web: CloudRole, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(web.url + "offload?range=30d")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile(r"/offload\?range=30d$"))
    expect(page.locator("tr.whole")).to_contain_text("%")
    context.close()


def test_the_chart_is_read_with_the_keyboard(web: CloudRole, page: Page) -> None:
    page.goto(web.url + "offload?range=7d")
    page.locator(".plot").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".readout")).to_contain_text(re.compile(r"canary \d+\.\d% \("))


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("path", ["offload", "offload?by=device&against=before", "offload?left=canary&right=early"])
def test_it_fits_a_phone(web: CloudRole, page: Page, path: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(web.url + path)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_an_empty_store_is_no_error_page(tmp_path: Path, page: Page) -> None:
    with CloudRole(write_cloud_toml(tmp_path, 1), "web") as web:
        page.goto(web.url + "offload")
        expect(page.locator("[data-notice=not_ready]")).to_be_visible()
        expect(page.locator("main")).to_contain_text("Nothing was counted")
