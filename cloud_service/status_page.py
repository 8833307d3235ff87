"""The small HTTP listener for whoever watches a process: /metrics (Prometheus), /livez and /readyz."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import ThreadingWSGIServer, make_wsgi_app

from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_TEXT = ("Content-Type", "text/plain; charset=utf-8")


class StatusPage:
    """Listens from `start` to `stop`, in threads of its own. `is_ready` is asked at each /readyz."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, is_ready: Callable[[], bool]) -> None:
        self._host = host
        self._wanted_port = port
        self._is_ready = is_ready
        self._metrics = make_wsgi_app(registry)
        self._server: WSGIServer | None = None

    @property
    def port(self) -> int:
        """Where it listens; after `start`."""
        return self._server.server_port if self._server else self._wanted_port

    def start(self) -> None:
        """Listen.

        Raises:
            ConfigurationError: the address is taken or not ours.
        """
        kind = _IPv6Server if ":" in self._host else _Server
        try:
            self._server = kind((self._host, self._wanted_port), _Handler)
        except OSError as error:
            raise ConfigurationError(f"metrics cannot listen on {self._host}:{self._wanted_port}: {error}") from error
        self._server.set_app(self._answer)
        threading.Thread(target=self._server.serve_forever, name="tandem-status-page", daemon=True).start()

    def stop(self) -> None:
        """Close the listener."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _answer(self, environment: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environment["PATH_INFO"]
        if path == "/metrics":
            page: Iterable[bytes] = self._metrics(environment, start_response)
            return page
        if path == "/livez" or (path == "/readyz" and self._is_ready()):
            start_response("200 OK", [_TEXT])
            return [b"ok\n"]
        start_response("503 Service Unavailable" if path == "/readyz" else "404 Not Found", [_TEXT])
        return [b"not ready\n" if path == "/readyz" else b"try /metrics, /livez or /readyz\n"]


class _Server(ThreadingWSGIServer):
    """A thread a connection; none outlives the process."""


class _IPv6Server(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = 10  # seconds that a caller may take to say what it wants

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing of each request."""
