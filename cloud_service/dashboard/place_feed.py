"""What all viewers of a page see that shows one of many things: each is read once a refresh, if anybody looks at it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import anyio

from cloud_service.dashboard.feed import MAX_VIEWERS
from cloud_service.dashboard.pages import Regions
from shared.clock import Clock
from shared.errors import Overloaded, StorageError

Place = TypeVar("Place", bound=Hashable)
Shown = TypeVar("Shown")
_log = logging.getLogger(__name__)
_STILL_AFTER_S = 3.0
_MOST_KEPT = 64
_REST_PER_WORK = 9.0


@dataclass
class _Look(Generic[Shown]):
    view: Shown | None = None
    regions: Regions | None = None
    fresh_until_s: float = float("-inf")


class PlaceFeed(Generic[Place, Shown]):
    """Use on a running event loop. `look` blocks: it is called in a worker thread, with the place that is looked at."""

    def __init__(
        self,
        look: Callable[[Place], Shown],
        render: Callable[[Shown, str], Regions],
        clock: Clock,
        refresh_s: float,
    ) -> None:
        self._look = look
        self._render = render
        self._clock = clock
        self._refresh_s = refresh_s
        self._looks: dict[Place, _Look[Shown]] = {}
        self._lock = anyio.Lock()
        self._viewers = 0
        self._closing = anyio.Event()

    async def regions(self, place: Place) -> Regions:
        """The parts of the page that change, not older than a refresh. A store that fails leaves the last ones."""
        async with self._lock:
            look = self._looks.setdefault(place, _Look())
            if look.regions is None or self._clock.monotonic_s() >= look.fresh_until_s:
                await self._refresh(place, look)
            self._forget()
        return look.regions or {}

    async def _refresh(self, place: Place, look: _Look[Shown]) -> None:
        began_s = self._clock.monotonic_s()
        problem = ""
        try:
            look.view = await anyio.to_thread.run_sync(self._look, place)
        except StorageError as error:
            _log.warning("%s", error)
            problem = "The figures below are the last ones read. The fleet service's log says more."
        if look.view is not None:
            look.regions = self._render(look.view, problem)
        now_s = self._clock.monotonic_s()
        look.fresh_until_s = now_s + max(self._refresh_s, _REST_PER_WORK * (now_s - began_s))

    def _forget(self) -> None:
        """The oldest places go; who still looks at one makes it anew."""
        while len(self._looks) > _MOST_KEPT:
            self._looks.pop(next(iter(self._looks)))

    @contextmanager
    def viewer(self, shown: Place) -> Iterator[PlaceViewer[Place, Shown]]:
        """Someone who looks, for as long as the `with` block lasts.

        Raises:
            Overloaded: too many look already.
        """
        if self._viewers >= MAX_VIEWERS:
            raise Overloaded(f"{MAX_VIEWERS} viewers watch already", 5.0)
        self._viewers += 1
        try:
            yield PlaceViewer(self, shown)
        finally:
            self._viewers -= 1

    async def rest(self) -> bool:
        """Wait for a refresh. Returns: whether to go on."""
        with anyio.move_on_after(self._refresh_s):
            await self._closing.wait()
        return not self._closing.is_set()

    def now_s(self) -> float:
        """A clock that only goes forward."""
        return self._clock.monotonic_s()

    def close(self) -> None:
        """End every viewer's stream."""
        self._closing.set()


class PlaceViewer(Generic[Place, Shown]):
    """One who looks at one place."""

    def __init__(self, feed: PlaceFeed[Place, Shown], place: Place) -> None:
        self._feed = feed
        self._place = place
        self._seen: Regions = {}

    async def next(self) -> Regions | None:
        """See `cloud_service.dashboard.event_stream.Viewer`."""
        until_s = self._feed.now_s() + _STILL_AFTER_S
        while True:
            if self._seen and not await self._feed.rest():
                return None
            regions = await self._feed.regions(self._place)
            changed = {name: html for name, html in regions.items() if self._seen.get(name) != html}
            self._seen = regions
            if changed or self._feed.now_s() >= until_s:
                return changed
            if not regions and not await self._feed.rest():
                return None
