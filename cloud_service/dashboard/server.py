"""The web process: the operator's page over HTTP, and an ordered end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
from collections.abc import Iterator

import anyio
import uvicorn

from cloud_service.access.passwords import Passwords
from cloud_service.config import CloudSettings, TlsSettings, WebSettings
from cloud_service.dashboard.app import make_app
from cloud_service.dashboard.feed import Feed
from cloud_service.dashboard.pages import Pages
from cloud_service.dashboard.site import Site, open_site
from cloud_service.storage.fleet_reader import FleetReader
from shared.clock import SystemClock
from shared.errors import ConfigurationError

_log = logging.getLogger(__name__)
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_PROXIES = ["127.0.0.1", "::1"]
_LAST_ANSWERS_S = 3


def run_web(settings: CloudSettings) -> None:
    """Serve the operator's page until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: it cannot listen, its certificate cannot be used, or the store's URL is none.
    """
    if settings.web.tls:
        _check_certificate(settings.web.tls)
    site = open_site(settings, SystemClock(), Passwords())
    reader = FleetReader(site.reading)
    feed = Feed(
        reader,
        Pages(),
        site.clock,
        refresh_s=settings.web.refresh_ms / 1e3,
        offline_after_s=settings.fleet.offline_after_ms // 1000,
        commit_s=settings.fleet.commit_interval_ms / 1e3,
    )
    try:
        with _bound(settings.web) as listener:
            asyncio.run(_serve_until_stopped(site, feed, listener))
    finally:
        site.close()


async def _serve_until_stopped(site: Site, feed: Feed, listener: socket.socket) -> None:
    settings = site.settings.web
    server = _Server(
        uvicorn.Config(
            make_app(site, feed, (*_LOOPBACK_NAMES, settings.host, *settings.allowed_hosts)),
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=settings.behind_proxy,
            forwarded_allow_ips=_PROXIES,
            ssl_certfile=settings.tls.certificate if settings.tls else None,
            ssl_keyfile=settings.tls.key if settings.tls else None,
            timeout_graceful_shutdown=_LAST_ANSWERS_S,
        )
    )

    def stop() -> None:
        for end in (feed.close, *site.on_close):
            end()
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings.tls else "http"
    _log.info("operator's page ready on %s://%s:%d/", scheme, f"[{host}]" if ":" in host else host, port)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed.run)
        await server.serve(sockets=[listener])
        tasks.cancel_scope.cancel()
    _log.info("operator's page stopped")


def _check_certificate(tls: TlsSettings) -> None:
    """Found out here, it is one clear line instead of a trace from the server's inside."""
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(tls.certificate, tls.key)
    except OSError as error:
        raise ConfigurationError(f"web.tls: {tls.certificate} with {tls.key} cannot be used: {error}") from error


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers: streams must end first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See `uvicorn.Server`."""
        yield


@contextlib.contextmanager
def _bound(settings: WebSettings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
        raise ConfigurationError(
            f"the operator's page cannot listen on {settings.host}:{settings.port}: {error.strerror}"
        ) from error
    with listener:
        yield listener
