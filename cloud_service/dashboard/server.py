"""The web process: the operator's page over HTTP, and an ordered end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Iterator

import anyio
import uvicorn

from cloud_service.config import CloudSettings, WebSettings
from cloud_service.dashboard.app import make_app
from cloud_service.dashboard.feed import Feed
from cloud_service.dashboard.pages import Pages
from cloud_service.storage.engine import open_engine
from cloud_service.storage.fleet_reader import FleetReader
from shared.clock import SystemClock
from shared.errors import ConfigurationError

_log = logging.getLogger(__name__)
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_LAST_ANSWERS_S = 3


def run_web(settings: CloudSettings) -> None:
    """Serve the operator's page until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: it cannot listen, or the store's URL is none.
    """
    reader = FleetReader(open_engine(settings.storage_url(), writes=False))
    feed = Feed(
        reader,
        Pages(),
        SystemClock(),
        refresh_s=settings.web.refresh_ms / 1e3,
        offline_after_s=settings.fleet.offline_after_ms // 1000,
        commit_s=settings.fleet.commit_interval_ms / 1e3,
    )
    try:
        with _bound(settings.web) as listener:
            asyncio.run(_serve_until_stopped(settings.web, feed, listener))
    finally:
        reader.close()


async def _serve_until_stopped(settings: WebSettings, feed: Feed, listener: socket.socket) -> None:
    server = _Server(
        uvicorn.Config(
            make_app(feed, (*_LOOPBACK_NAMES, settings.host, *settings.allowed_hosts)),
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_LAST_ANSWERS_S,
        )
    )

    def stop() -> None:
        feed.close()
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    host, port = listener.getsockname()[:2]
    _log.info("operator's page ready on http://%s:%d/", f"[{host}]" if ":" in host else host, port)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed.run)
        await server.serve(sockets=[listener])
        tasks.cancel_scope.cancel()
    _log.info("operator's page stopped")


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
