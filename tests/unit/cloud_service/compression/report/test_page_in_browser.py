"""The report's file in a real browser."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from cloud_service.compression.report.document import Report
from cloud_service.compression.report.files import write_report
from tests.support.browser import CHROMIUM, OPTIONS, needs_chromium

SHOTS = os.environ.get("REPORT_SHOTS")
pytestmark = needs_chromium
HIDDEN_BEYOND_THE_EDGE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_the_page_fits_and_complains_of_nothing(
    full_report: Report, tmp_path: Path, browser: Browser, width: int, scheme: str
) -> None:
    files = write_report(full_report, tmp_path)
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
        java_script_enabled=True,
    )
    page = context.new_page()
    complaints: list[str] = []
    asked: list[str] = []
    page.on("console", lambda line: complaints.append(line.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(files.page.as_uri())
    assert page.evaluate(HIDDEN_BEYOND_THE_EDGE) == 0
    assert page.locator("svg[role=img]").count() == 6
    page.locator("summary").first.click()
    assert page.locator("details[open]").count() == 1
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert page.evaluate(HIDDEN_BEYOND_THE_EDGE) == 0
    if SHOTS:
        page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = false; })")
        page.screenshot(path=Path(SHOTS) / f"report-{width}-{scheme}.png", full_page=True)
    context.close()
    assert not complaints
    assert all(url.startswith(("file://", "data:")) for url in asked)
