"""The operator's site over a real store, without a server: for tests that speak to its pages."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from argon2 import PasswordHasher
from starlette.routing import BaseRoute

from cloud_service.access.action_log import Entry
from cloud_service.access.passwords import Passwords
from cloud_service.access.roles import Role
from cloud_service.config import CloudSettings, StorageSettings, WebSettings
from cloud_service.dashboard.app import make_app
from cloud_service.dashboard.feed import Feed
from cloud_service.dashboard.pages import Pages
from cloud_service.dashboard.site import Site, open_site
from cloud_service.storage.access_store import User
from cloud_service.storage.schema import migrate
from shared.clock import Clock
from tests.support.fake_clock import FakeClock
from tests.support.fleet_readings import FixedReader, fleet_reading

HOST = "127.0.0.1"
OWN = {"Origin": f"http://{HOST}"}
"""What a browser says of a form on our own page."""
PASSWORD = "correct horse battery"
QUICK_PASSWORDS = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
"""Weak and quick, for tests alone."""


def site_over(
    url: str,
    *,
    web: WebSettings | None = None,
    clock: Clock | None = None,
    passwords: Passwords = QUICK_PASSWORDS,
    is_set_up: bool = True,
) -> Site:
    """A site over the store at `url`, whose tables are made unless `is_set_up` is false. Close it in the end."""
    settings = CloudSettings(storage=StorageSettings(url=url), web=web or WebSettings())
    site = open_site(settings, clock or FakeClock(), passwords)
    if is_set_up:
        migrate(site.writing)
    return site


@asynccontextmanager
async def talk_to(
    site: Site, *, scheme: str = "http", address: str = "127.0.0.1", more: Sequence[BaseRoute] = ()
) -> AsyncIterator[httpx.AsyncClient]:
    """A browser without a screen, and `more` routes beside the site's own. It keeps cookies and follows no redirect."""
    reader = FixedReader(fleet_reading())
    feed = Feed(reader, Pages(), site.clock, refresh_s=1.0, offline_after_s=30, commit_s=1.0)
    app = make_app(site, feed, [HOST])
    app.router.routes.extend(more)
    transport = httpx.ASGITransport(app, client=(address, 50_000))
    async with httpx.AsyncClient(transport=transport, base_url=f"{scheme}://{HOST}") as client:
        yield client


async def sign_in(client: httpx.AsyncClient, name: str) -> None:
    """As a user with `PASSWORD` does."""
    form = await client.get("/login")
    fields = {"name": name, "password": PASSWORD, "csrf": csrf_of(form.text)}
    assert (await client.post("/login", data=fields, headers=OWN)).status_code == 303


def csrf_of(page: str) -> str:
    """The token in a page's first form."""
    found = re.search(r'name="csrf" value="([0-9a-f]*)"', page)
    assert found is not None, page
    return found[1]


def sqlite_url(folder: Path) -> str:
    return f"sqlite:///{folder / 'site.sqlite'}"


def add_user(site: Site, name: str, role: Role) -> None:
    """A user whose password is `PASSWORD`."""
    user = User(name, role, site.passwords.hash(PASSWORD), site.now_ms())
    site.access.add_user(user, Entry(site.now_ms(), "host:test", "host", "user.add", name))
