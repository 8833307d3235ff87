from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Connection, text
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from cloud_service.access.roles import Role
from cloud_service.config import WebSettings
from cloud_service.dashboard.guard import MAX_FORM_BYTES
from cloud_service.dashboard.site import Site
from cloud_service.storage.action_store import ActionLog, Wanted
from tests.support.fake_clock import FakeClock
from tests.support.site import OWN, add_user, csrf_of, sign_in, site_over, sqlite_url, talk_to

pytestmark = pytest.mark.anyio
OPEN = {"/login", "/healthz"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def site(tmp_path: Path, clock: FakeClock) -> Iterator[Site]:
    site = site_over(sqlite_url(tmp_path), clock=clock)
    yield site
    site.close()


@pytest.fixture
def peopled(site: Site) -> Site:
    """A site with a user of each role, named as the role."""
    for role in Role:
        add_user(site, role.value, role)
    return site


class Actions:
    """A page with an action for operators, one for viewers, and one that fails."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/act", self._site.require(Role.OPERATOR)(self.act), methods=["POST"]),
            Route("/see", self._site.require(Role.OPERATOR)(self.see)),
            Route("/fail", self._site.require(Role.OPERATOR)(self.fail), methods=["POST"]),
        ]

    async def act(self, request: Request) -> Response:
        alpha = self._site.form(request)["alpha"]
        await self._site.record(request, "gate.tighten", "banking77", {"alpha": alpha})
        return RedirectResponse("/", 303)

    async def see(self, request: Request) -> Response:
        return PlainTextResponse(self._site.csrf_token(request))

    async def fail(self, request: Request) -> Response:
        def change(connection: Connection) -> None:
            connection.execute(text("DELETE FROM users"))
            raise OSError("ordered by the test")

        await self._site.act(request, "gate.loosen", "banking77", {}, change)
        return RedirectResponse("/", 303)


async def act(client: httpx.AsyncClient, **fields: str) -> httpx.Response:
    return await client.post("/act", data={"alpha": "0.05", **fields}, headers=OWN)


def kinds(site: Site) -> list[str]:
    return ActionLog(site.reading).kinds()


async def test_every_route_but_login_health_and_static_is_closed_to_strangers(peopled: Site) -> None:
    async with talk_to(peopled) as client:
        app = client._transport.app  # type: ignore[attr-defined]
        walked = set()
        for route in app.routes:
            if isinstance(route, Mount):
                assert route.path == "/static"
                continue
            for method in (route.methods or set()) - {"HEAD"}:
                path = route.path.replace("{", "").replace("}", "")
                answer = await client.request(method, path, headers=OWN)
                walked.add(route.path)
                if route.path not in OPEN:
                    assert answer.status_code in (303, 401), (method, path)
        assert walked >= {"/", "/events", "/log", "/logout", *OPEN}
        assert (await client.get("/static/page.css")).status_code == 200


async def test_without_any_user_the_page_can_be_read_and_says_so(site: Site) -> None:
    async with talk_to(site) as client:
        page = (await client.get("/")).text
        assert "No login set up" in page and "cloud-service users add" in page
        assert "Sign out" not in page and 'href="/log"' not in page
        assert (await client.get("/log")).status_code == 403
        assert (await client.get("/login")).headers["location"] == "/"


async def test_without_any_user_nobody_can_act(site: Site) -> None:
    async with talk_to(site, more=Actions(site).routes()) as client:
        answer = await act(client)
        assert answer.status_code == 403 and "cloud-service users add" in answer.text
    assert kinds(site) == []


async def test_with_the_first_user_the_page_closes_at_once(site: Site) -> None:
    async with talk_to(site) as client:
        assert (await client.get("/")).status_code == 200
        add_user(site, "ada", Role.ADMIN)
        assert (await client.get("/")).headers["location"] == "/login?next=%2F"


async def test_a_required_login_closes_the_page_without_any_user(tmp_path: Path) -> None:
    site = site_over(sqlite_url(tmp_path), web=WebSettings(login="required"))
    async with talk_to(site) as client:
        assert (await client.get("/")).status_code == 303
        assert (await client.get("/healthz")).status_code == 200
    site.close()


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("operator", 303), ("admin", 303)])
async def test_actions_and_pages_ask_for_their_role(peopled: Site, role: str, status: int) -> None:
    async with talk_to(peopled, more=Actions(peopled).routes()) as client:
        await sign_in(client, role)
        token = csrf_of((await client.get("/")).text)
        answer = await act(client, csrf=token)
        assert answer.status_code == status
        assert (await client.get("/see")).status_code == (403 if status == 403 else 200)
        if status == 403:
            assert "It needs the role operator; viewer is viewer." in answer.text
    assert ("gate.tighten" in kinds(peopled)) is (status == 303)


async def test_an_action_is_on_record_with_who_did_it(peopled: Site) -> None:
    async with talk_to(peopled, more=Actions(peopled).routes()) as client:
        await sign_in(client, "operator")
        await act(client, csrf=csrf_of((await client.get("/")).text))
    entry = ActionLog(peopled.reading).read(Wanted(1))[0].entry
    assert (entry.actor, entry.role, entry.action, entry.subject) == (
        "operator",
        "operator",
        "gate.tighten",
        "banking77",
    )
    assert json.loads(entry.detail) == {"alpha": "0.05"}


async def test_an_action_that_fails_leaves_neither_change_nor_entry(peopled: Site) -> None:
    async with talk_to(peopled, more=Actions(peopled).routes()) as client:
        await sign_in(client, "admin")
        token = csrf_of((await client.get("/")).text)
        with pytest.raises(OSError, match="ordered by the test"):
            await client.post("/fail", data={"csrf": token}, headers=OWN)
    assert len(peopled.access.users()) == 3 and "gate.loosen" not in kinds(peopled)


async def test_an_action_needs_this_sessions_token_and_our_own_origin(peopled: Site) -> None:
    async with talk_to(peopled, more=Actions(peopled).routes()) as client:
        await sign_in(client, "operator")
        token = csrf_of((await client.get("/")).text)
        for headers in (
            {},
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {**OWN, "Sec-Fetch-Site": "cross-site"},
        ):
            answer = await client.post("/act", data={"alpha": "1", "csrf": token}, headers=headers)
            assert answer.status_code == 403
        for wrong in ("", "0" * 64):
            assert (await act(client, csrf=wrong)).status_code == 403
        client.cookies.delete("tandem_session")
        await sign_in(client, "operator")
        assert (await act(client, csrf=token)).status_code == 403
    assert "gate.tighten" not in kinds(peopled)


async def test_a_script_sends_the_same_form_and_nothing_else_is_taken(peopled: Site) -> None:
    async with talk_to(peopled, more=Actions(peopled).routes()) as client:
        await sign_in(client, "operator")
        token = (await client.get("/see")).text
        assert (await act(client, csrf=token)).status_code == 303
        assert (await client.post("/act", json={"csrf": token}, headers=OWN)).status_code == 415
        assert (await act(client, csrf=token, more="x" * MAX_FORM_BYTES)).status_code == 413


async def test_a_user_who_acts_without_end_has_to_wait(peopled: Site, clock: FakeClock) -> None:
    async with talk_to(peopled, more=Actions(peopled).routes()) as client:
        await sign_in(client, "operator")
        token = (await client.get("/see")).text
        assert {(await act(client, csrf=token)).status_code for _ in range(60)} == {303}
        refused = await act(client, csrf=token)
        assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
        clock.advance(1)
        assert (await act(client, csrf=token)).status_code == 303


@pytest.mark.parametrize("change", ["password", "role", "removal"])
async def test_who_was_changed_or_removed_is_out_at_once(peopled: Site, change: str) -> None:
    async with talk_to(peopled) as client:
        await sign_in(client, "viewer")
        assert (await client.get("/")).status_code == 200
        entry = ActionLog(peopled.reading).read(Wanted(1))[0].entry
        if change == "password":
            peopled.access.set_password("viewer", "hash", entry)
        elif change == "role":
            peopled.access.set_role("viewer", Role.ADMIN, entry)
        else:
            peopled.access.remove_user("viewer", entry)
        assert (await client.get("/")).status_code == 303


async def test_what_a_signed_in_user_sees_is_kept_nowhere(peopled: Site) -> None:
    async with talk_to(peopled) as client:
        await sign_in(client, "admin")
        answer = await client.get("/")
        assert answer.headers["cache-control"] == "no-store"
        policy = answer.headers["content-security-policy"]
        assert "form-action 'self'" in policy and "frame-ancestors 'none'" in policy


async def test_the_navigation_marks_the_page_and_leads_only_where_one_may_go(peopled: Site) -> None:
    async with talk_to(peopled) as client:
        await sign_in(client, "viewer")
        page = (await client.get("/")).text
        assert '<a href="/" aria-current="page">Overview</a>' in page and 'href="/log"' not in page
    async with talk_to(peopled) as client:
        await sign_in(client, "operator")
        page = (await client.get("/log")).text
        assert '<a href="/log" aria-current="page">Log</a>' in page and '<a href="/">Overview</a>' in page


async def test_a_stream_without_a_session_is_refused_and_not_led_to_a_page(peopled: Site) -> None:
    async with talk_to(peopled) as client:
        answer = await client.get("/events", headers={"Accept": "text/event-stream"})
        assert answer.status_code == 401 and "location" not in answer.headers
