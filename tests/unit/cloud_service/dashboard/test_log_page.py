from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_service.access.action_log import Entry, detail_json
from cloud_service.access.roles import Role
from cloud_service.dashboard.site import Site
from cloud_service.storage.action_store import ActionLog
from tests.support.site import add_user, sign_in, site_over, sqlite_url, talk_to

pytestmark = pytest.mark.anyio
AT_MS = 1_799_900_000_000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A log with 130 entries: one user made, then of three who act in turn, then a login."""
    site = site_over(sqlite_url(tmp_path))
    add_user(site, "ada", Role.OPERATOR)
    for number in range(128):
        entry = Entry(AT_MS + number, f"user-{number % 3}", "admin", f"gate.{number % 2}", "m", '{"n":1}')
        site.access.act(entry, lambda connection: None)
    yield site
    site.close()


def numbers(page: str) -> list[int]:
    return [int(found) for found in re.findall(r'data-seq="(\d+)"', page)]


async def test_the_log_is_shown_newest_first_a_page_at_a_time(site: Site) -> None:
    async with talk_to(site) as client:
        await sign_in(client, "ada")
        page = (await client.get("/log")).text
        assert numbers(page) == list(range(130, 80, -1)) and ">Newest<" not in page
        assert ActionLog(site.reading).head() in page
        seen = numbers(page)
        while older := re.search(r'href="(/log\?[^"]*)" rel="next"', page):
            page = (await client.get(older[1].replace("&amp;", "&"))).text
            seen += numbers(page)
            assert ">Newest<" in page
        assert seen == list(range(130, 0, -1))


async def test_it_is_filtered_by_who_and_what_on_every_page(site: Site) -> None:
    async with talk_to(site) as client:
        await sign_in(client, "ada")
        page = (await client.get("/log?actor=user-1&action=gate.0")).text
        assert numbers(page) == [2 + number for number in range(127, -1, -1) if number % 3 == 1 and number % 2 == 0]
        assert "<option selected>gate.0</option>" in page and 'value="user-1"' in page
        older = re.search(r'href="(/log\?[^"]*)" rel="next"', (await client.get("/log?action=gate.1")).text)
        assert older is not None and "action=gate.1" in older[1]
        assert "No entries" in (await client.get("/log?actor=nobody")).text


async def test_what_stands_in_an_entry_is_text(site: Site) -> None:
    wild = "<img src=x onerror=alert(1)>"
    for detail in (detail_json({wild: wild, "list": [1, "二"]}), wild):
        site.access.act(Entry(AT_MS, wild, wild, wild, wild, detail), lambda connection: None)
    async with talk_to(site) as client:
        await sign_in(client, "ada")
        page = (await client.get("/log")).text
        assert "<img" not in page and "&lt;img" in page and "二" in page


@pytest.mark.parametrize("before", ["x", "-1", "1e9", "²", "9" * 30])
async def test_a_page_that_cannot_be_is_refused(site: Site, before: str) -> None:
    async with talk_to(site) as client:
        await sign_in(client, "ada")
        assert (await client.get("/log", params={"before": before})).status_code == 400
