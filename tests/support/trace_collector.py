"""A collector of spans as an operator runs one: OTLP over HTTP."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_PATIENCE_S = 20.0


@dataclass(frozen=True)
class SeenSpan:
    """One span. Ids in hexadecimal; `parent_id` "" for the root; attributes and events as text."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, str]
    events: tuple[str, ...]


class TraceCollector:
    """`with TraceCollector() as collector:` takes what is sent to `collector.endpoint`."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.bodies.append(body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                return None

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}/v1/traces"

    def __enter__(self) -> TraceCollector:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def spans(self) -> list[SeenSpan]:
        """All that have come."""
        return [span for body in list(self.bodies) for span in _spans_of(body)]

    def wait_for(self, condition: Callable[[list[SeenSpan]], bool]) -> list[SeenSpan]:
        """The spans, once the condition holds of them."""
        until_s = time.monotonic() + _PATIENCE_S
        while not condition(spans := self.spans()):
            assert time.monotonic() < until_s, spans
            time.sleep(0.05)
        return spans


def _spans_of(body: bytes) -> list[SeenSpan]:
    found = []
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        words = {each.key: each.value.string_value for each in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                found.append(
                    SeenSpan(
                        words["service.name"],
                        span.name,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        {each.key: str(each.value).strip() for each in span.attributes},
                        tuple(event.name for event in span.events),
                    )
                )
    return found
