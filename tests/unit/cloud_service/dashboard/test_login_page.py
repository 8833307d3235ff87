from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from argon2 import PasswordHasher

from cloud_service.access.csrf import form_token
from cloud_service.access.passwords import Passwords
from cloud_service.access.roles import Role
from cloud_service.access.sessions import id_hash_of
from cloud_service.config import WebSettings
from cloud_service.dashboard.site import Site
from cloud_service.storage.action_store import ActionLog, Wanted
from tests.support.fake_clock import FakeClock
from tests.support.site import OWN, PASSWORD, add_user, csrf_of, site_over, sqlite_url, talk_to

pytestmark = pytest.mark.anyio
STRONGER = Passwords(PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def site(tmp_path: Path, clock: FakeClock) -> Iterator[Site]:
    site = site_over(sqlite_url(tmp_path), clock=clock)
    add_user(site, "ada", Role.ADMIN)
    yield site
    site.close()


def logged(site: Site) -> list[tuple[str, str]]:
    """Actor and action, oldest first."""
    return [(row.entry.actor, row.entry.action) for row in reversed(ActionLog(site.reading).read(Wanted(99)))]


async def try_to_sign_in(
    client: httpx.AsyncClient, name: str = "ada", password: str = PASSWORD, place: str = "/log"
) -> httpx.Response:
    form = await client.get("/login")
    fields = {"name": name, "password": password, "next": place, "csrf": csrf_of(form.text)}
    return await client.post("/login", data=fields, headers=OWN)


async def test_who_signs_in_goes_on_to_the_page_that_was_asked_for(site: Site) -> None:
    async with talk_to(site) as client:
        sent = await client.get("/log?actor=ada&action=user.add")
        assert (sent.status_code, sent.headers["location"]) == (
            303,
            "/login?next=%2Flog%3Factor%3Dada%26action%3Duser.add",
        )
        form = await client.get(sent.headers["location"])
        assert 'value="/log?actor=ada&amp;action=user.add"' in form.text
        answer = await try_to_sign_in(client, place="/log?actor=ada&action=user.add")
        assert (answer.status_code, answer.headers["location"]) == (303, "/log?actor=ada&action=user.add")
        page = await client.get("/")
        assert page.status_code == 200 and "<b>ada</b>" in page.text and "Sign out" in page.text
        assert (await client.get("/login?next=/log")).headers["location"] == "/log"
    assert logged(site) == [("host:test", "user.add"), ("ada", "user.sign_in")]


async def test_the_cookie_is_for_this_site_alone_and_the_store_has_its_digest(site: Site) -> None:
    async with talk_to(site) as client:
        answer = await try_to_sign_in(client)
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("tandem_session=") and "Secure" not in cookie and "Domain" not in cookie
        assert all(word in cookie for word in ("HttpOnly", "SameSite=strict", "Path=/"))
        session_id = client.cookies["tandem_session"]
    assert site.access.look(id_hash_of(session_id)).session is not None
    assert site.access.look(session_id).session is None


async def test_under_tls_the_cookie_is_bound_to_the_host(site: Site) -> None:
    async with talk_to(site, scheme="https") as client:
        answer = await client.get("/login")
        assert answer.headers["set-cookie"].startswith("__Host-tandem_visit=")
        fields = {"name": "ada", "password": PASSWORD, "csrf": csrf_of(answer.text)}
        answer = await client.post("/login", data=fields, headers={"Origin": "https://127.0.0.1"})
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-tandem_session=") and "Secure" in cookie and "Path=/" in cookie
        assert (await client.get("/")).status_code == 200


@pytest.mark.parametrize(("name", "password"), [("ada", "wrong password"), ("eve", PASSWORD), ("not a name!", "x")])
async def test_wrong_name_and_wrong_password_look_the_same(site: Site, name: str, password: str) -> None:
    async with talk_to(site) as client:
        answer = await try_to_sign_in(client, name, password)
        assert answer.status_code == 401 and "Name or password is wrong" in answer.text
        assert "tandem_session" not in client.cookies
    assert logged(site)[-1] == ("ada" if name == "ada" else "(unknown name)", "user.sign_in_failed")


async def test_what_was_typed_comes_back_as_text_and_the_password_never(site: Site) -> None:
    async with talk_to(site) as client:
        answer = await try_to_sign_in(client, '"><script>alert(1)</script>', "secret-secret-secret")
        assert "<script>alert" not in answer.text and "secret-secret" not in answer.text


async def test_each_login_has_a_session_of_its_own_and_ends_the_one_before(site: Site) -> None:
    async with talk_to(site) as client:
        await try_to_sign_in(client)
        first = client.cookies["tandem_session"]
        visit = client.cookies["tandem_visit"]
        form_of_another_tab = {"name": "ada", "password": PASSWORD, "csrf": form_token(visit)}
        await client.post("/login", data=form_of_another_tab, headers=OWN)
        assert client.cookies["tandem_session"] != first
        assert site.access.look(id_hash_of(first)).session is None


async def test_a_session_that_was_planted_before_the_login_is_worth_nothing_after(site: Site) -> None:
    async with talk_to(site) as client:
        client.cookies.set("tandem_session", "planted", domain="127.0.0.1")
        await try_to_sign_in(client)
        assert client.cookies["tandem_session"] != "planted"
        assert site.access.look(id_hash_of("planted")).session is None


async def test_who_signs_out_is_out_everywhere_this_session_was_known(site: Site) -> None:
    async with talk_to(site) as client:
        await try_to_sign_in(client)
        stolen = client.cookies["tandem_session"]
        token = csrf_of((await client.get("/")).text)
        answer = await client.post("/logout", data={"csrf": token}, headers=OWN)
        assert answer.headers["location"] == "/login" and "tandem_session" not in client.cookies
        client.cookies.set("tandem_session", stolen, domain="127.0.0.1")
        assert (await client.get("/")).status_code == 303
    assert logged(site)[-1] == ("ada", "user.sign_out")


async def test_a_session_ends_when_it_is_idle_or_old(site: Site, clock: FakeClock) -> None:
    async with talk_to(site) as client:
        await try_to_sign_in(client)
        for _ in range(24):
            clock.advance(29 * 60)
            assert (await client.get("/")).status_code == 200
        clock.advance(29 * 60)
        assert (await client.get("/")).status_code == 303
        await try_to_sign_in(client)
        clock.advance(30 * 60)
        assert (await client.get("/")).status_code == 303


async def test_too_many_wrong_passwords_for_one_name_have_to_wait(site: Site, clock: FakeClock) -> None:
    async with talk_to(site) as client:
        for _ in range(5):
            assert (await try_to_sign_in(client, password="wrong password")).status_code == 401
        refused = await try_to_sign_in(client)
        assert refused.status_code == 429 and refused.headers["retry-after"] == "12"
        assert "Try again in 12 s" in refused.text and "tandem_session" not in client.cookies
        entries = len(logged(site))
        await try_to_sign_in(client)
        assert len(logged(site)) == entries
        clock.advance(12)
        assert (await try_to_sign_in(client)).status_code == 303


async def test_one_address_cannot_try_many_names_and_others_still_can(site: Site) -> None:
    async with talk_to(site) as client:
        for number in range(20):
            assert (await try_to_sign_in(client, f"user-{number}", "wrong password")).status_code == 401
        assert (await try_to_sign_in(client)).status_code == 429
    async with talk_to(site, address="192.0.2.9") as other:
        assert (await try_to_sign_in(other)).status_code == 303


async def test_signing_in_rightly_is_never_limited(site: Site) -> None:
    async with talk_to(site) as client:
        for _ in range(30):
            assert (await try_to_sign_in(client)).status_code == 303
            client.cookies.delete("tandem_session")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {**OWN, "Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_a_form_on_another_site_cannot_sign_anyone_in(site: Site, headers: dict[str, str]) -> None:
    async with talk_to(site) as client:
        token = csrf_of((await client.get("/login")).text)
        fields = {"name": "ada", "password": PASSWORD, "csrf": token}
        answer = await client.post("/login", data=fields, headers=headers)
        assert answer.status_code == 403 and "tandem_session" not in client.cookies


async def test_a_form_needs_the_token_of_the_browser_that_it_was_shown_to(site: Site) -> None:
    async with talk_to(site) as other:
        anothers = csrf_of((await other.get("/login")).text)
    async with talk_to(site) as client:
        await client.get("/login")
        for token in ("", "0" * 64, anothers):
            answer = await client.post("/login", data={"name": "ada", "password": PASSWORD, "csrf": token}, headers=OWN)
            assert answer.status_code == 403 and "too old" in answer.text


@pytest.mark.parametrize(
    "place",
    [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "evil",
        "",
        "/\tevil",
        "/%0a\n//evil",
        "javascript:x",
    ],
)
async def test_the_login_leads_to_no_other_site(site: Site, place: str) -> None:
    async with talk_to(site) as client:
        answer = await try_to_sign_in(client, place=place)
        assert answer.headers["location"] == "/"


async def test_a_login_page_without_users_says_how_to_make_one(tmp_path: Path) -> None:
    site = site_over(sqlite_url(tmp_path), web=WebSettings(login="required"))
    async with talk_to(site) as client:
        assert (await client.get("/")).headers["location"] == "/login?next=%2F"
        assert "cloud-service users add NAME --role admin" in (await client.get("/login")).text
        assert (await try_to_sign_in(client)).status_code == 401
    site.close()


async def test_a_store_that_is_not_set_up_lets_nobody_in_where_a_login_is_required(tmp_path: Path) -> None:
    site = site_over(sqlite_url(tmp_path), web=WebSettings(login="required"), is_set_up=False)
    async with talk_to(site) as client:
        assert (await client.get("/")).status_code == 303
        assert (await client.get("/login")).status_code == 200
        assert (await try_to_sign_in(client)).status_code == 503
    site.close()


async def test_a_weaker_hash_is_renewed_at_the_next_login(site: Site, tmp_path: Path) -> None:
    before = site.access.user("ada")
    stronger = site_over(sqlite_url(tmp_path), passwords=STRONGER)
    async with talk_to(stronger) as client:
        assert (await try_to_sign_in(client)).status_code == 303
        assert (await client.get("/")).status_code == 200
    after = stronger.access.user("ada")
    stronger.close()
    assert before is not None and after is not None and before.password_hash != after.password_hash
    assert STRONGER.matches(after.password_hash, PASSWORD) and not STRONGER.is_outdated(after.password_hash)
