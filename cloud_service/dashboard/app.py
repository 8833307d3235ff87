"""The routes of the operator's page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud_service.dashboard.event_stream import EventStream
from cloud_service.dashboard.feed import Feed
from cloud_service.dashboard.ranges import DEFAULT_RANGE, RANGES, Range

_STATIC = Path(__file__).parent / "static"
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def make_app(feed: Feed, hosts: Sequence[str]) -> Starlette:
    """The ASGI application. It answers for `hosts` alone, so that no other site's name can be bound to it."""
    routes = _Routes(feed)
    return Starlette(
        routes=[
            Route("/", routes.page),
            Route("/events", routes.events),
            Route("/healthz", _health),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ],
        middleware=[Middleware(_Headers), Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))],
    )


class _Routes:
    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    async def page(self, request: Request) -> Response:
        shown = _range_of(request)
        if shown is None:
            return _unknown_range()
        return HTMLResponse(await self._feed.page(shown))

    async def events(self, request: Request) -> Response:
        shown = _range_of(request)
        if shown is None:
            return _unknown_range()
        return EventStream(self._feed, shown)


async def _health(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


def _range_of(request: Request) -> Range | None:
    return RANGES.get(request.query_params.get("range", DEFAULT_RANGE.key))


def _unknown_range() -> Response:
    return PlainTextResponse(f"range must be one of {', '.join(RANGES)}", 400)


class _Headers:
    """Adds the headers that every answer carries."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)
