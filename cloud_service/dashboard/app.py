"""The operator's site as an ASGI application: all pages, and what every answer carries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud_service.dashboard import (
    devices_page,
    hard_cases_page,
    log_page,
    login_page,
    offload_page,
    overview_page,
    risk_page,
    rollout_page,
)
from cloud_service.dashboard.feed import Feed
from cloud_service.dashboard.site import Site

_STATIC = Path(__file__).parent / "static"
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
PAGES = (
    devices_page.routes,
    hard_cases_page.routes,
    login_page.routes,
    log_page.routes,
    offload_page.routes,
    risk_page.routes,
    rollout_page.routes,
)
"""One a page: what makes its routes; see `cloud_service.dashboard.site`."""


def make_app(site: Site, feed: Feed, hosts: Sequence[str]) -> Starlette:
    """The ASGI application. It answers for `hosts` alone, so that no other site's name can be bound to it."""
    routes: list[BaseRoute] = [
        *overview_page.routes(site, feed),
        *(route for make_routes in PAGES for route in make_routes(site)),
        Route("/healthz", _health),
        Mount("/static", StaticFiles(directory=_STATIC)),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(_Headers), Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))],
    )
    app.state.served = frozenset(route.path for route in routes if isinstance(route, Route))
    return app


async def _health(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


class _Headers:
    """Adds the headers that every answer carries. Without a word of its own, an answer is asked for anew each time."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("Cache-Control", "no-cache")
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)
