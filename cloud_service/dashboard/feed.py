"""What all viewers see: the store is read once for each refresh and stretch of time, however many look.

Nobody looking, nothing is read. A reader that is slow is read more seldom, so that it takes a tenth of a core at
the most.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

import anyio
from anyio import CapacityLimiter, to_thread

from cloud_service.dashboard.navigation import NO_FRAME, Frame
from cloud_service.dashboard.notices import STALE_AFTER_S, unreadable
from cloud_service.dashboard.pages import Pages, Regions
from cloud_service.dashboard.ranges import RANGES, Range, question
from cloud_service.dashboard.view import Overview, overview
from cloud_service.fleet.reading import FleetReading, Question
from shared.clock import Clock
from shared.errors import Overloaded, StorageError

_log = logging.getLogger(__name__)
MAX_VIEWERS = 256
DEVICE_LIMIT = 20
_STILL_AFTER_S = 3.0
_REST_PER_WORK = 9.0


class Reader(Protocol):
    """What the page asks of the store; see `cloud_service.storage.fleet_reader.FleetReader`. Blocking."""

    def read(self, question: Question) -> FleetReading | None:
        """One consistent look; None while the store is not set up. Raises StorageError."""
        ...


@dataclass
class _Channel:
    """The newest look at one stretch of time. `changed` is set, and replaced, with each new one."""

    shown: Range
    view: Overview | None = None
    regions: Regions = field(default_factory=dict)
    read_s: float = float("-inf")
    viewers: int = 0
    changed: anyio.Event = field(default_factory=anyio.Event)
    lock: anyio.Lock = field(default_factory=anyio.Lock)


class Feed:
    """Use on a running event loop; `run` refreshes what is being looked at."""

    def __init__(
        self, reader: Reader, pages: Pages, clock: Clock, *, refresh_s: float, offline_after_s: int, commit_s: float
    ) -> None:
        """`commit_s`: how often the fleet service writes, to tell when its figures are stale."""
        self._reader = reader
        self._pages = pages
        self._clock = clock
        self._refresh_s = refresh_s
        self._offline_after_s = offline_after_s
        self._stale_after_s = STALE_AFTER_S + round(2 * commit_s)
        self._channels = {key: _Channel(shown) for key, shown in RANGES.items()}
        self._one_thread = CapacityLimiter(1)
        self.is_closing = False

    async def run(self) -> None:
        """Refresh until cancelled."""
        while True:
            began_s = self._clock.monotonic_s()
            for channel in self._channels.values():
                if channel.viewers:
                    await self._refresh(channel)
            spent_s = self._clock.monotonic_s() - began_s
            await self._clock.sleep(max(self._refresh_s - spent_s, _REST_PER_WORK * spent_s))

    async def page(self, shown: Range, frame: Frame = NO_FRAME) -> str:
        """The whole page in its frame, not older than a refresh."""
        channel = await self.fresh(self._channels[shown.key])
        assert channel.view is not None  # `fresh` has set it
        return self._pages.page(channel.view, channel.regions, frame)

    @contextmanager
    def viewer(self, shown: Range) -> Iterator[Viewer]:
        """Someone who looks, for as long as the `with` block lasts.

        Raises:
            Overloaded: too many look already.
        """
        if sum(channel.viewers for channel in self._channels.values()) >= MAX_VIEWERS:
            raise Overloaded(f"{MAX_VIEWERS} viewers watch already", 5.0)
        channel = self._channels[shown.key]
        channel.viewers += 1
        try:
            yield Viewer(self, channel)
        finally:
            channel.viewers -= 1

    def close(self) -> None:
        """End every viewer's stream."""
        self.is_closing = True
        for channel in self._channels.values():
            channel.changed.set()

    async def fresh(self, channel: _Channel) -> _Channel:
        """`channel`, not older than a refresh."""
        if self._clock.monotonic_s() - channel.read_s >= self._refresh_s:
            await self._refresh(channel)
        return channel

    async def _refresh(self, channel: _Channel) -> None:
        """One at a time; who waited for another's refresh takes that one's result."""
        asked_s = self._clock.monotonic_s()
        async with channel.lock:
            if channel.read_s >= asked_s:
                return
            view, regions = await to_thread.run_sync(self._look, channel, limiter=self._one_thread)
            channel.view, channel.regions, channel.read_s = view, regions, self._clock.monotonic_s()
            channel.changed.set()
            if not self.is_closing:
                channel.changed = anyio.Event()

    def _look(self, channel: _Channel) -> tuple[Overview, Regions]:
        """In the worker thread."""
        now_s = int(self._clock.unix_s())
        asked = question(channel.shown, now_s, offline_after_s=self._offline_after_s, device_limit=DEVICE_LIMIT)
        try:
            view = overview(channel.shown, asked, self._reader.read(asked), now_s, self._stale_after_s)
        except StorageError as error:
            _log.warning("%s", error)
            view = replace(
                channel.view or overview(channel.shown, asked, None, now_s, self._stale_after_s),
                notices=(unreadable("The fleet service's log says more"),),
            )
        return view, self._pages.regions(view)


class Viewer:
    """One who looks at one stretch of time. A slow one misses steps in between, never the newest."""

    def __init__(self, feed: Feed, channel: _Channel) -> None:
        self._feed = feed
        self._channel = channel
        self._seen: Regions | None = None

    async def next(self) -> Regions | None:
        """The regions that changed since the last call, all of them at first, none after a while without a change.

        None: the page's server is going down.
        """
        if self._seen is None:
            await self._feed.fresh(self._channel)
        elif self._seen is self._channel.regions:
            with anyio.move_on_after(_STILL_AFTER_S):
                await self._channel.changed.wait()
        if self._feed.is_closing:
            return None
        seen, self._seen = self._seen or {}, self._channel.regions
        return {name: html for name, html in self._seen.items() if seen.get(name) != html}
