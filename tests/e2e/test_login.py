"""Signing in to the operator's page in a real browser, against a real server."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from cloud_service.cli import main
from tests.support.browser import needs_chromium
from tests.support.certificate import WHY_NOT, make_certificate
from tests.support.fleet_process import CloudRole, write_cloud_toml

PASSWORD = "correct horse battery"
pytestmark = needs_chromium


def users(config: Path, *arguments: str) -> None:
    assert main(["users", *arguments, "--config", str(config)]) == 0


def set_up(folder: Path, web: str = "") -> Path:
    """A page with three users, whose store nobody else has written to."""
    config = write_cloud_toml(folder, 1)
    config.write_text(config.read_text(encoding="utf-8") + web, encoding="utf-8")
    (folder / "password").write_text(PASSWORD, encoding="utf-8")
    for role in ("viewer", "operator", "admin"):
        users(config, "add", role, "--role", role, "--password-file", str(folder / "password"))
    return config


@pytest.fixture(scope="module")
def calm_web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudRole]:
    """For tests that change no user."""
    with CloudRole(set_up(tmp_path_factory.mktemp("calm")), "web") as web:
        yield web


def sign_in(page: Page, name: str, password: str = PASSWORD) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def test_an_operator_signs_in_sees_the_log_and_signs_out(calm_web: CloudRole, page: Page) -> None:
    page.goto(calm_web.url + "log?action=user.add")
    expect(page).to_have_title("Sign in · Tandem")
    sign_in(page, "operator", "wrong password")
    expect(page.get_by_role("alert")).to_have_text("Name or password is wrong.")
    expect(page.get_by_label("Name")).to_have_value("operator")
    expect(page.get_by_label("Password")).to_be_focused()
    sign_in(page, "operator")
    expect(page).to_have_url(calm_web.url + "log?action=user.add")
    expect(page.locator("tbody tr")).to_have_count(3)
    expect(page.locator("nav [aria-current=page]")).to_have_text("Log")
    page.get_by_label("Action").select_option("user.sign_in_failed")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("tbody tr").first).to_contain_text("address 127.0.0.1")
    page.get_by_role("link", name="Overview").click()
    expect(page.locator(".who")).to_contain_text("operator")
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_title("Sign in · Tandem")
    page.go_back()
    expect(page).to_have_title("Sign in · Tandem")


def test_a_viewer_is_led_nowhere_it_may_not_go(calm_web: CloudRole, page: Page) -> None:
    page.goto(calm_web.url)
    sign_in(page, "viewer")
    expect(page.locator(".who")).to_contain_text("viewer")
    expect(page.get_by_role("link", name="Log")).to_have_count(0)
    page.goto(calm_web.url + "log")
    expect(page.locator("main")).to_contain_text("It needs the role operator; viewer is viewer.")


def test_the_pages_fit_a_phone_and_both_colour_schemes(calm_web: CloudRole, page: Page, tmp_path: Path) -> None:
    grounds = set()
    for width in (1280, 390, 320):
        for scheme in ("light", "dark"):
            page.set_viewport_size({"width": width, "height": 844})
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            page.goto(calm_web.url + "log")
            expect(page.get_by_role("button", name="Sign in")).to_be_visible()
            fits(page, width)
            sign_in(page, "admin")
            expect(page.locator("table.log")).to_be_visible()
            fits(page, width)
            grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            page.get_by_role("button", name="Sign out").click()
    assert len(grounds) == 2


def fits(page: Page, width: int) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_an_open_page_leads_to_the_login_once_its_user_is_out(tmp_path: Path, page: Page) -> None:
    config = set_up(tmp_path)
    with CloudRole(config, "web") as web:
        page.goto(web.url)
        sign_in(page, "viewer")
        expect(page.locator(".who")).to_be_visible()
        users(config, "remove", "viewer")
        expect(page).to_have_title("Sign in · Tandem")


def test_the_server_listens_under_tls_with_cookies_of_its_host(tmp_path: Path, context: BrowserContext) -> None:
    if WHY_NOT:
        pytest.skip(WHY_NOT)
    certificate, key = make_certificate(tmp_path)
    tls = f'login = "required"\nhost = "0.0.0.0"\ntls = {{ certificate = "{certificate}", key = "{key}" }}\n'
    with CloudRole(set_up(tmp_path, tls), "web") as web:
        url = f"https://127.0.0.1:{web.address.rpartition(':')[2]}/"
        page = context.new_page()
        page.goto(url)
        sign_in(page, "admin")
        expect(page.locator(".who")).to_contain_text("admin")
        cookies = {cookie["name"]: cookie for cookie in context.cookies()}
        assert set(cookies) == {"__Host-tandem_session", "__Host-tandem_visit"}
        for cookie in cookies.values():
            assert cookie["secure"] and cookie["httpOnly"] and cookie["sameSite"] == "Strict" and cookie["path"] == "/"
        assert web.terminate() == 0


def test_a_certificate_that_cannot_be_used_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_cloud_toml(tmp_path, 1)
    (tmp_path / "page.pem").write_text("no certificate", encoding="utf-8")
    tls = 'tls = { certificate = "page.pem", key = "page.pem" }\n'
    config.write_text(config.read_text(encoding="utf-8") + tls, encoding="utf-8")
    assert main(["serve", "web", "--config", str(config)]) == 2
    assert re.search(r"web\.tls: .*page\.pem with .*page\.pem cannot be used", capsys.readouterr().err)


@pytest.mark.parametrize(("setting", "is_believed"), [("behind_proxy = true\n", True), ("", False)])
def test_only_a_proxy_that_was_named_may_say_that_there_is_tls(tmp_path: Path, setting: str, is_believed: bool) -> None:
    with CloudRole(set_up(tmp_path, setting), "web") as web:
        answer = httpx.get(web.url + "login", headers={"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.7"})
        assert answer.headers["set-cookie"].startswith("__Host-tandem_visit=") is is_believed
        assert ("Secure" in answer.headers["set-cookie"]) is is_believed


@contextmanager
def other_site(html: str) -> Iterator[str]:
    """A page under another site's name; to the browser, localhost is another site than 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_link_from_elsewhere_leads_who_is_signed_in_where_it_says(calm_web: CloudRole, page: Page) -> None:
    page.goto(calm_web.url)
    sign_in(page, "admin")
    expect(page.locator(".who")).to_be_visible()
    with other_site(f'<a href="{calm_web.url}log?action=user.add">the log</a>') as elsewhere:
        page.goto(elsewhere)
        page.get_by_role("link").click()
        expect(page).to_have_url(calm_web.url + "log?action=user.add")
        expect(page.locator(".who")).to_contain_text("admin")


def test_a_form_on_another_site_does_nothing(calm_web: CloudRole, page: Page) -> None:
    page.goto(calm_web.url)
    sign_in(page, "admin")
    expect(page.locator(".who")).to_be_visible()
    token = page.locator(".who [name=csrf]").get_attribute("value")
    form = f'<form method="post" action="{calm_web.url}logout"><input name="csrf" value="{token}"><button>Win</button>'
    with other_site(form) as elsewhere:
        page.goto(elsewhere)
        page.get_by_role("button").click()
        page.wait_for_url(calm_web.url + "logout")
    page.goto(calm_web.url)
    expect(page.locator(".who")).to_contain_text("admin")
