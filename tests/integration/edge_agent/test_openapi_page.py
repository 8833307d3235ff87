from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from tests.support.agent_process import AgentProcess
from tests.support.browser import CHROMIUM, OPTIONS, needs_chromium

pytestmark = needs_chromium


def test_the_openapi_page_sends_a_request_and_asks_nobody_but_the_agent(write_config: Callable[..., Path]) -> None:
    with AgentProcess(write_config()) as agent, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        page = browser.new_page()
        asked: list[str] = []
        faults: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(agent.url + "/docs")
        expect(page.locator("#paths summary").first).to_contain_text("/v1/infer")
        page.fill("#request", '{"text": "card"}')
        page.click("#send")
        expect(page.locator("#answer")).to_contain_text('"label": "card"')
        expect(page.locator("#status")).to_contain_text("200")
        browser.close()
    assert all(url.startswith((agent.url, "data:")) for url in asked) and not faults
