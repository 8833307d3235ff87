"""Where Prometheus asks a process for its figures."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.registry import Collector

from shared.errors import ConfigurationError

_log = logging.getLogger(__name__)


@contextmanager
def metrics_listener(role: str, host: str, port: int, collector: Collector) -> Iterator[int]:
    """Answer with what `collector` tells, and nothing else; gives the port.

    Raises:
        ConfigurationError: it cannot listen there.
    """
    registry = CollectorRegistry()
    registry.register(collector)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise ConfigurationError(f"{role}.metrics_port: cannot listen on {host}:{port}: {error}") from error
    _log.info("%s metrics on %s:%d", role, host, server.server_port)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
