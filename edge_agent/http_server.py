"""Serves the ASGI application with uvicorn, started and stopped by us and not by signals."""

from __future__ import annotations

import contextlib
import math
import socket
from collections.abc import Iterator

import anyio
import uvicorn
from starlette.types import ASGIApp

from edge_agent.config import HttpSettings
from shared.errors import ConfigurationError

_BACKLOG = 512
_KEEP_ALIVE_S = 75
"""Longer than clients keep an idle connection (5 s to 60 s), so that they close it and never race with us."""


class HttpServer:
    """One listener. It is bound when it is made, so that a taken port is known at start."""

    def __init__(self, app: ASGIApp, settings: HttpSettings) -> None:
        """Raises: ConfigurationError: the address cannot be listened on."""
        self._socket = _bind(settings)
        self._address: tuple[str, int] = self._socket.getsockname()[:2]
        self._stopped = anyio.Event()
        self._server = _QuietServer(
            uvicorn.Config(
                app,
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=math.ceil(settings.drain_ms / 1e3),
            )
        )

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self._address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def run(self) -> None:
        """Serve until `stop`."""
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            self._socket.close()
            self._stopped.set()

    async def stop(self) -> None:
        """Stop accepting, let the requests under way end within `drain_ms`, cancel what is left, and close."""
        self._server.should_exit = True
        await self._stopped.wait()

    def hurry(self) -> None:
        """Wait for nothing more."""
        self._server.force_exit = True


class _QuietServer(uvicorn.Server):
    """uvicorn's server without its signal handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _bind(settings: HttpSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"http: cannot listen on {settings.host}:{settings.port}: {error.strerror}; is another agent running?"
        ) from error
