"""The page of hard cases in a real browser, over a real store."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from cloud_service.access.roles import Role
from cloud_service.storage.action_store import ActionLog, Wanted
from cloud_service.storage.case_store import CaseStore
from cloud_service.storage.transactions import open_durable_engine
from tests.support.browser import needs_chromium
from tests.support.case_parts import audited, compared, labelled
from tests.support.fleet_process import CloudRole
from tests.support.site import PASSWORD, add_user, site_over

pytestmark = needs_chromium
TEXTS = ("why was my transfer declined", "my transfer was declined, why", "我的信用卡在哪里", "信用卡在哪里？", "=1+1")


@dataclass
class Stage:
    """A page over a store with hard cases of the last hour."""

    web: CloudRole
    url: str


@pytest.fixture(params=[True, False], ids=["texts kept", "no texts"])
def keeps_text(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def stage(tmp_path: Path, keeps_text: bool) -> Iterator[Stage]:
    url = f"sqlite:///{tmp_path / 'data' / 'fleet.sqlite'}"
    site = site_over(url)
    for name, role in (("olga", Role.OPERATOR), ("vic", Role.VIEWER)):
        add_user(site, name, role)
    site.close()
    fill(url, keeps_text)
    config = tmp_path / "cloud.toml"
    privacy = f"[privacy]\nkeep_text = {str(keeps_text).lower()}\n"
    config.write_text(f'data_dir = "data"\n[web]\nport = 0\n{privacy}', encoding="utf-8")
    with CloudRole(config, "web") as web:
        yield Stage(web, url)


def fill(url: str, keeps_text: bool) -> None:
    now_s = int(time.time())
    store = CaseStore(open_durable_engine(url))
    cases = [
        compared(f"r{number}", at_s=now_s - 60 - number, edge_score=0.4, text=TEXTS[number % 5] if keeps_text else None)
        for number in range(20)
    ]
    store.add_comparisons([*cases, compared("same", at_s=now_s, full_label="card"), audited("right", at_s=now_s)])
    store.add_comparisons([audited("wrong", at_s=now_s, edge_label="loan", full_label="<b>cash</b>", edge_score=0.97)])
    store.add_comparisons([compared("old", at_s=now_s - 3 * 86_400, edge_label="old")])
    store.add_labels([labelled("l1", received_s=now_s, true_label="loan"), labelled("l2", received_s=now_s)])
    store.close()


def sign_in(page: Page, stage: Stage, name: str, place: str = "hard-cases") -> None:
    page.goto(stage.web.url + place)
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(stage.web.url + place)


def test_an_operator_sees_groups_looks_into_one_and_exports_it(stage: Stage, page: Page, keeps_text: bool) -> None:
    sign_in(page, stage, "olga")
    rows = page.locator("table.cases tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.nth(0)).to_contain_text("card")
    expect(rows.nth(0)).to_contain_text("20")
    expect(page.locator("[data-figure=cases]")).to_have_attribute("data-value", "22")
    expect(page.locator("#pairs")).to_contain_text("<b>cash</b>")

    rows.nth(0).get_by_role("link").click()
    detail = page.locator("#detail")
    expect(detail.locator(".bands tr").nth(1)).to_contain_text("20")
    if keeps_text:
        groups = detail.locator(".alike li")
        expect(groups).to_have_count(3)
        expect(groups.nth(0).locator("blockquote")).to_have_count(2)
        expect(detail).to_contain_text("我的信用卡在哪里")
    else:
        expect(detail).to_contain_text("Texts are not kept")
        expect(detail.locator("tbody tr").last).to_contain_text("d1")

    with page.expect_download() as downloading:
        page.get_by_role("link", name="Export this group as CSV").click()
    table = list(csv.reader(io.StringIO(Path(downloading.value.path()).read_text(encoding="utf-8"))))
    assert len(table) == 21
    if keeps_text:
        assert table[0] == ["text", "category"]
        assert ["我的信用卡在哪里", "cash"] in table
        assert ["'=1+1", "cash"] in table, "no spreadsheet may take it for a formula"
    else:
        assert table[0] == ["device_id", "request_id", "edge_label", "category"]
        assert ["d1", "r3", "card", "cash"] in table
    site = site_over(stage.url)
    (entry,) = ActionLog(site.reading).read(Wanted(9, action="cases.export"))
    site.close()
    assert entry.entry.actor == "olga"
    assert '"rows":20' in entry.entry.detail.replace(" ", "")


@pytest.mark.parametrize("keeps_text", [True], indirect=False)
def test_a_viewer_sees_groups_and_no_texts_and_exports_nothing(stage: Stage, page: Page, keeps_text: bool) -> None:
    sign_in(page, stage, "vic")
    page.locator("table.cases tbody tr").nth(0).get_by_role("link").click()
    expect(page.locator("#detail")).to_contain_text("Texts are for operators to read")
    assert "信用卡" not in page.content()
    answer = page.request.get(stage.web.url + "hard-cases.csv")
    assert answer.status == 403


@pytest.mark.parametrize("keeps_text", [False], indirect=False)
def test_the_view_is_narrowed_by_kind_time_and_the_address(stage: Stage, page: Page, keeps_text: bool) -> None:
    sign_in(page, stage, "olga")
    page.get_by_label("Cases").select_option("True label contradicts")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("table.cases tbody tr")).to_have_count(1)
    expect(page.locator("table.cases")).to_contain_text("loan")
    page.get_by_label("Cases").select_option("Audited wrong")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("table.cases tbody tr")).to_have_count(1)
    page.goto(stage.web.url + "hard-cases?differing=1")
    expect(page.locator("[data-figure=cases]")).to_have_attribute("data-value", "21")
    page.get_by_role("link", name="last 7 days").click()
    expect(page).to_have_url(re.compile(r"range=7d&differing=1"))
    expect(page.locator("[data-edge=old]")).to_be_visible()
    page.goto(stage.web.url + "hard-cases?kind=none")
    expect(page.locator("main")).to_contain_text("kind must be one of")


@pytest.mark.parametrize("keeps_text", [True], indirect=False)
def test_it_fits_a_phone_and_both_colour_schemes(stage: Stage, page: Page, keeps_text: bool) -> None:
    sign_in(page, stage, "olga")
    page.locator("table.cases tbody tr").nth(0).get_by_role("link").click()
    address = page.url
    grounds = set()
    for width in (1280, 768, 390, 320):
        for scheme in ("light", "dark"):
            page.set_viewport_size({"width": width, "height": 844})
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            page.goto(address)
            expect(page.locator("#detail")).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (width, scheme)
            grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2


def test_a_store_that_nobody_has_set_up_is_no_error_page(tmp_path: Path, page: Page) -> None:
    config = tmp_path / "cloud.toml"
    config.write_text('data_dir = "data"\n[web]\nport = 0\n', encoding="utf-8")
    with CloudRole(config, "web") as web:
        page.goto(web.url + "hard-cases")
        expect(page.locator("[data-notice=not_ready]")).to_contain_text("cloud-service serve")
