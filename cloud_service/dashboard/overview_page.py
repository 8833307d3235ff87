"""The overview: the newest figures, kept live by a stream of events."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from cloud_service.access.roles import Role
from cloud_service.dashboard.event_stream import EventStream
from cloud_service.dashboard.feed import Feed
from cloud_service.dashboard.guard import frame_of
from cloud_service.dashboard.ranges import DEFAULT_RANGE, RANGES, Range
from cloud_service.dashboard.site import Site


def routes(site: Site, feed: Feed) -> list[BaseRoute]:
    """See `cloud_service.dashboard.site`."""
    page = _Page(feed)
    viewers = site.require(Role.VIEWER)
    return [Route("/", viewers(page.show)), Route("/events", viewers(page.events))]


class _Page:
    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    async def show(self, request: Request) -> Response:
        shown = _range_of(request)
        if shown is None:
            return _unknown_range()
        return HTMLResponse(await self._feed.page(shown, frame_of(request)))

    async def events(self, request: Request) -> Response:
        shown = _range_of(request)
        if shown is None:
            return _unknown_range()
        return EventStream(self._feed, shown)


def _range_of(request: Request) -> Range | None:
    return RANGES.get(request.query_params.get("range", DEFAULT_RANGE.key))


def _unknown_range() -> Response:
    return PlainTextResponse(f"range must be one of {', '.join(RANGES)}", 400)
