"""The page of risks in a real browser: a choice goes over a real broker to a real device, which says that it obeys."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from cloud_service.storage.engine import open_engine
from cloud_service.storage.risk_reader import RiskReader
from cloud_service.watch.records import IssuedPolicy
from shared.gate import Gate, Risk, parse_gate
from tests.support.agent_process import AgentProcess
from tests.support.browser import needs_chromium
from tests.support.fleet_process import ROOT, CloudRole, wait_until, write_cloud_toml
from tests.support.mosquitto import EXECUTABLE, Mosquitto, free_port

BUNDLE = ROOT / "deploy" / "demo" / "bundles" / "banking77-edge"
PASSWORD = "correct horse battery"
pytestmark = [
    pytest.mark.skipif(EXECUTABLE is None, reason="mosquitto is not installed"),
    needs_chromium,
]


@dataclass
class Stage:
    """Everything that runs, and the gate that the device runs with."""

    web: CloudRole
    agent: AgentProcess
    gate: Gate
    store_url: str

    def policies(self) -> tuple[IssuedPolicy, ...]:
        """All policies in the store, newest first."""
        reader = RiskReader(open_engine(self.store_url, writes=False))
        reading = reader.read(self.gate.digest, "", 0, 0)
        assert reading is not None and reading.shown is not None
        return reading.shown.policies

    def stricter_alpha(self) -> float:
        """The next smaller certified alpha for kept error."""
        in_force = self.gate.in_force[Risk.KEPT_ERROR]
        steps = self.gate.certificate(Risk.KEPT_ERROR).steps
        return max(step.alpha for step in steps if step.threshold is not None and step.alpha < in_force)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with set_up(tmp_path_factory.mktemp("risk")) as stage:
        yield stage


@contextmanager
def set_up(folder: Path) -> Iterator[Stage]:
    with Mosquitto(folder / "broker") as broker:
        config = write_cloud_toml(folder, broker.port)
        bundles = f"edge_bundles = [{json.dumps(str(BUNDLE))}]"
        config.write_text(config.read_text(encoding="utf-8").replace("[fleet]", f"[fleet]\n{bundles}"), "utf-8")
        with CloudRole(config, "fleet"), CloudRole(config, "web") as web:
            for name, role in (("olga", "operator"), ("vera", "viewer")):
                add_user(folder, config, name, role)
            with AgentProcess(agent_file(folder, broker.port)) as agent:
                gate = parse_gate((BUNDLE / "gate.json").read_bytes())
                yield Stage(web, agent, gate, f"sqlite:///{folder / 'data' / 'fleet.sqlite'}")


def add_user(folder: Path, config: Path, name: str, role: str) -> None:
    password = folder / f"{name}.password"
    password.write_text(PASSWORD + "\n", encoding="utf-8")
    password.chmod(0o600)
    command = [sys.executable, "-m", "cloud_service", "users", "add", name, "--role", role]
    files = ["--config", str(config), "--password-file", str(password)]
    subprocess.run([*command, *files], cwd=ROOT, check=True, timeout=60, capture_output=True)


def agent_file(folder: Path, broker_port: int) -> Path:
    file = folder / "agent.toml"
    file.write_text(
        f'device_id = "press-1"\nring = "canary"\n[[models]]\nbundle = {json.dumps(str(BUNDLE))}\n'
        f'[http]\nport = {free_port()}\n[broker]\nhost = "127.0.0.1"\nport = {broker_port}\n'
        'telemetry_interval_ms = 200\n[state]\ndata_dir = "device"\n',
        encoding="utf-8",
    )
    return file


def sign_in(page: Page, stage: Stage, name: str) -> None:
    page.goto(stage.web.url + "login?next=/risk")
    page.locator("input[name=name]").fill(name)
    page.locator("input[name=password]").fill(PASSWORD)
    page.locator("main button[type=submit]").click()
    expect(page).to_have_title("Risk · Tandem")
    expect(page.locator("[data-ring=canary]")).to_contain_text("1 online")


def test_an_operator_moves_the_slider_applies_it_and_the_device_says_that_it_obeys(stage: Stage, page: Page) -> None:
    sign_in(page, stage, "olga")
    before = page.locator("[data-figure=chosen_offload]").text_content()
    page.locator("#range-kept-error").focus()
    page.keyboard.press("ArrowLeft")
    alpha = stage.stricter_alpha()
    step = stage.gate.certificate(Risk.KEPT_ERROR).step(alpha)
    expect(page.locator("[data-figure=chosen_threshold]")).to_have_text(f"{step.threshold:.4g}")
    expect(page.locator("[data-figure=chosen_offload]")).not_to_have_text(before or "")
    expect(page).to_have_url(re.compile(rf"alpha\.kept-error={alpha}"))

    page.locator("#choose input[name=reason]").fill("too many complaints")
    page.get_by_role("button", name="Apply to ring canary").click()
    expect(page.locator(".changes .stricter").first).to_contain_text("more goes to the cloud")
    assert not stage.policies()
    page.get_by_role("button", name="Apply it").click()

    expect(page.locator("[data-figure=progress]")).to_have_attribute("data-value", "obeyed")
    expect(page.locator("[data-figure=obeyed]")).to_have_attribute("data-value", "1")
    expect(page.locator("[data-figure=threshold_canary]")).to_have_text(f"{step.threshold:.4g}")
    expect(page.locator("#risk_progress")).to_contain_text("olga")
    expect(page.locator("#risk_progress")).to_contain_text("too many complaints")
    (issued,) = stage.policies()
    assert issued.policy.in_force["kept-error"] == alpha
    page.goto(stage.web.url + "log")
    expect(page.locator("main")).to_contain_text("gate.policy")
    expect(page.locator("main")).to_contain_text("too many complaints")


def test_all_is_escalated_at_once_and_the_bundles_own_choice_comes_back(stage: Stage, page: Page) -> None:
    sign_in(page, stage, "olga")
    for button, confirm, threshold in (
        ("Escalate all at once", "Escalate all now", "none: all is escalated"),
        ("Back to the bundle", "Go back to it", f"{stage.gate.threshold():.4g}"),
    ):
        page.get_by_role("button", name=button).click()
        page.locator("form.confirm input[name=reason]").fill("a drill")
        page.get_by_role("button", name=confirm).click()
        expect(page.locator("[data-figure=progress]")).to_have_attribute("data-value", "obeyed")
        expect(page.locator("[data-figure=threshold_canary]")).to_have_text(threshold)


def test_a_viewer_sees_the_figures_and_can_apply_nothing(stage: Stage, page: Page) -> None:
    sign_in(page, stage, "vera")
    before = len(stage.policies())
    expect(page.locator("#risk_chart svg").first).to_be_visible()
    expect(page.get_by_role("button", name="Apply to ring")).to_have_count(0)
    expect(page.locator("[data-viewer]")).to_contain_text("needs the role operator")
    page.evaluate("document.body.dataset.mayAct = ''")
    page.locator("#choose input[name=reason]").fill("I want to")
    page.locator("#choose button.main").click()
    expect(page.locator("body")).to_contain_text("operator")
    expect(page.locator("form.confirm")).to_have_count(0)
    assert len(stage.policies()) == before


@pytest.mark.parametrize("alpha", ["0.04", "0.005", "0.9"])
def test_a_tampered_form_with_an_alpha_that_is_not_certified_is_refused_and_nothing_is_written(
    stage: Stage, page: Page, alpha: str
) -> None:
    sign_in(page, stage, "olga")
    before = len(stage.policies())
    page.locator("#choose input[name=reason]").fill("tampered")
    page.get_by_role("button", name="Apply to ring canary").click()
    field = page.locator('form.confirm input[name="alpha.kept-error"]')
    field.evaluate("(field, value) => (field.value = value)", alpha)
    with page.expect_response(lambda answer: answer.url.endswith("/risk/apply")) as answered:
        page.locator("form.confirm button.main").click()
    assert answered.value.status == 422
    expect(page.locator("[data-refusal]")).to_contain_text("certified")
    assert len(stage.policies()) == before


def test_a_confirmation_that_another_policy_has_overtaken_is_refused(stage: Stage, page: Page) -> None:
    sign_in(page, stage, "olga")
    page.locator("#choose input[name=reason]").fill("late")
    page.get_by_role("button", name="Apply to ring canary").click()
    other = page.context.new_page()
    other.goto(stage.web.url + "risk?ring=canary")
    other.get_by_role("button", name="Escalate all at once").click()
    other.locator("form.confirm input[name=reason]").fill("fire")
    other.get_by_role("button", name="Escalate all now").click()
    expect(other.locator("[data-figure=progress]")).to_be_visible()
    page.get_by_role("button", name="Apply it").click()
    expect(page.locator("[data-refusal]")).to_contain_text("has changed since")
    assert stage.policies()[0].policy.escalate_all


def test_the_page_fits_a_phone_and_both_colour_schemes(stage: Stage, page: Page) -> None:
    sign_in(page, stage, "vera")
    for width in (1280, 768, 390, 320):
        for scheme in ("light", "dark"):
            page.set_viewport_size({"width": width, "height": 844})
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            page.reload()
            expect(page.locator("[data-ring=canary]")).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (width, scheme)


def test_without_a_script_there_are_plain_lists_that_reach_the_confirmation(stage: Stage, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    sign_in(page, stage, "olga")
    alpha = stage.stricter_alpha()
    page.locator('select[name="alpha.kept-error"]').select_option(str(alpha))
    page.locator("#choose input[name=reason]").fill("by hand")
    page.get_by_role("button", name="Apply to ring canary").click()
    expect(page.locator(".changes")).to_contain_text(f"Kept error: at most {alpha:.1%}")
    context.close()


def test_no_gate_known_says_where_to_name_the_bundles(tmp_path: Path, page: Page) -> None:
    config = write_cloud_toml(tmp_path, 1)
    with CloudRole(config, "web") as web:
        page.goto(web.url + "risk")
        expect(page.locator("[data-empty=not_ready]")).to_contain_text("cloud-service serve")
        with CloudRole(config, "fleet") as fleet:
            wait_until(lambda: bool(fleet.address), "the fleet service")
            page.goto(web.url + "risk")
            expect(page.locator("[data-empty=no_gates]")).to_contain_text("edge_bundles")
