from __future__ import annotations

from dataclasses import replace

import anyio
import anyio.lowlevel
import pytest

from cloud_service.dashboard.feed import MAX_VIEWERS, Feed
from cloud_service.dashboard.pages import Pages
from cloud_service.dashboard.ranges import DEFAULT_RANGE, RANGES
from shared.errors import Overloaded
from tests.support.fake_clock import FakeClock
from tests.support.fleet_readings import NOW_S, FixedReader, counted, device_reading, fleet_reading

pytestmark = pytest.mark.anyio
REGIONS = {"status", "notices", "headline", "risk_now", "charts", "devices", "details"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(unix_s=NOW_S)


@pytest.fixture
def reader() -> FixedReader:
    return FixedReader(fleet_reading(device_reading(counted())))


@pytest.fixture
def feed(reader: FixedReader, clock: FakeClock) -> Feed:
    return Feed(reader, Pages(), clock, refresh_s=1.0, offline_after_s=30, commit_s=1.0)


async def test_many_viewers_cost_one_read_for_each_refresh(feed: Feed, reader: FixedReader, clock: FakeClock) -> None:
    with feed.viewer(DEFAULT_RANGE) as one, feed.viewer(DEFAULT_RANGE) as two:
        for viewer in (one, two):
            assert "headline" in (await viewer.next() or {})
        assert reader.reads == 1
        reader.reading = fleet_reading(device_reading(counted("d1")), device_reading(counted("d2")))
        clock.advance(1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(feed.run)
            changed = [await viewer.next() for viewer in (one, two)]
            tasks.cancel_scope.cancel()
        assert reader.reads == 2
        assert changed[0] == changed[1] and changed[0] and "devices" in changed[0]


async def test_only_what_changed_is_sent_again(feed: Feed, reader: FixedReader, clock: FakeClock) -> None:
    with feed.viewer(DEFAULT_RANGE) as viewer:
        first = await viewer.next()
        assert first is not None and set(first) == REGIONS
        assert reader.reading is not None and reader.reading.status is not None
        reader.reading = replace(reader.reading, status=replace(reader.reading.status, written_s=NOW_S + 1))
        clock.advance(1)
        await feed.page(DEFAULT_RANGE)
        assert set(await viewer.next() or {}) == {"status"}


async def test_while_nobody_looks_nothing_is_read(feed: Feed, reader: FixedReader, clock: FakeClock) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed.run)
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
            clock.advance(1)
        tasks.cancel_scope.cancel()
    assert reader.reads == 0


async def test_a_page_asked_for_twice_within_a_refresh_is_read_once(
    feed: Feed, reader: FixedReader, clock: FakeClock
) -> None:
    assert await feed.page(DEFAULT_RANGE) == await feed.page(DEFAULT_RANGE)
    assert reader.reads == 1
    await feed.page(RANGES["24h"])
    assert reader.reads == 2


async def test_a_store_that_fails_leaves_the_last_figures_and_says_so(
    feed: Feed, reader: FixedReader, clock: FakeClock
) -> None:
    before = await feed.page(DEFAULT_RANGE)
    assert 'data-notice="unreadable"' not in before
    reader.is_broken = True
    clock.advance(2)
    after = await feed.page(DEFAULT_RANGE)
    assert 'data-notice="unreadable"' in after and "wanted 16 of 98 accepted" in after


async def test_a_store_that_fails_from_the_beginning_still_gives_a_page(feed: Feed, reader: FixedReader) -> None:
    reader.is_broken = True
    assert 'data-notice="unreadable"' in await feed.page(DEFAULT_RANGE)


async def test_there_is_room_for_so_many_and_those_who_left_make_room(feed: Feed) -> None:
    viewers = [feed.viewer(DEFAULT_RANGE) for _ in range(MAX_VIEWERS)]
    for viewer in viewers:
        viewer.__enter__()
    with pytest.raises(Overloaded), feed.viewer(RANGES["1h"]):
        pass
    viewers[0].__exit__(None, None, None)
    with feed.viewer(DEFAULT_RANGE):
        pass


async def test_closing_ends_every_stream(feed: Feed) -> None:
    with feed.viewer(DEFAULT_RANGE) as viewer:
        await viewer.next()
        feed.close()
        assert await viewer.next() is None
