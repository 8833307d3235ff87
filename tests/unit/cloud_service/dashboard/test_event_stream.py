from __future__ import annotations

import json

import anyio
import pytest
from starlette.types import Message

from cloud_service.dashboard.event_stream import EventStream
from cloud_service.dashboard.feed import MAX_VIEWERS, Feed
from cloud_service.dashboard.pages import Pages
from cloud_service.dashboard.ranges import DEFAULT_RANGE
from tests.support.fake_clock import FakeClock
from tests.support.fleet_readings import NOW_S, FixedReader, fleet_reading

pytestmark = pytest.mark.anyio
SCOPE = {"type": "http", "method": "GET", "path": "/events", "headers": []}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def feed() -> Feed:
    reader = FixedReader(fleet_reading())
    return Feed(reader, Pages(), FakeClock(unix_s=NOW_S), refresh_s=1.0, offline_after_s=30, commit_s=1.0)


class Browser:
    """The other end of one request: remembers what it is sent, and leaves when told to."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.heard = anyio.Event()
        self.leaves = anyio.Event()

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        if message.get("body"):
            self.heard.set()

    async def receive(self) -> Message:
        await self.leaves.wait()
        return {"type": "http.disconnect"}


async def test_a_stream_begins_with_every_region_and_ends_when_the_server_does(feed: Feed) -> None:
    browser = Browser()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(EventStream(feed, DEFAULT_RANGE), SCOPE, browser.receive, browser.send)
        await browser.heard.wait()
        feed.close()
    start, first, *_, last = browser.sent
    assert (b"content-type", b"text/event-stream; charset=utf-8") in start["headers"]
    kind, data = first["body"].decode().rstrip("\n").split("\n")
    assert kind == "event: regions" and "headline" in json.loads(data.removeprefix("data: "))
    assert last == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_a_viewer_who_leaves_makes_room_at_once(feed: Feed) -> None:
    browsers = [Browser() for _ in range(MAX_VIEWERS)]
    late = Browser()
    async with anyio.create_task_group() as tasks:
        for browser in browsers:
            tasks.start_soon(EventStream(feed, DEFAULT_RANGE), SCOPE, browser.receive, browser.send)
        for browser in browsers:
            await browser.heard.wait()
        await EventStream(feed, DEFAULT_RANGE)(SCOPE, late.receive, late.send)
        assert late.sent[0]["status"] == 503
        for browser in browsers:
            browser.leaves.set()
    with feed.viewer(DEFAULT_RANGE):
        pass
