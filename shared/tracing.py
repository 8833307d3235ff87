"""The one adapter for OpenTelemetry: spans that follow a request over HTTP, gRPC and MQTT (W3C Trace Context).

Off until `traced` turns it on, and then nothing is imported but this file. Hot paths ask `TRACING.is_on` first:

    with TRACING.span("escalate") if TRACING.is_on else UNTRACED:

A span holds names, numbers and ids; never the text of a request, nor the words of an error, which may quote one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from shared import __version__
from shared.errors import ConfigurationError
from shared.listeners import is_loopback
from shared.settings import Section

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Tracer

Attributes: TypeAlias = "Mapping[str, str | int | float | bool]"
HEADER = "traceparent"
UNTRACED: AbstractContextManager[None] = nullcontext()
_EXPORT_TIMEOUT_S = 2


class TracingSettings(Section):
    """Where spans go: the collector's OTLP/HTTP address. Of the traces that begin here, `sample_ratio` are kept."""

    endpoint: str = "http://127.0.0.1:4318/v1/traces"
    sample_ratio: float = Field(1.0, ge=0.0, le=1.0)

    @field_validator("endpoint")
    @classmethod
    def _is_protected(cls, value: str) -> str:
        address = urlsplit(value)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ValueError(f"{value!r} is no http or https address")
        if address.scheme == "http" and not is_loopback(address.hostname):
            raise ValueError(f"{value!r} is not on this machine: use https")
        return value


class Kind(str, Enum):
    """A span's part in a conversation, as OpenTelemetry names it."""

    INTERNAL = "INTERNAL"
    SERVER = "SERVER"
    CLIENT = "CLIENT"
    PRODUCER = "PRODUCER"
    CONSUMER = "CONSUMER"


@dataclass(frozen=True)
class Stage:
    """A part of what just ended, measured elsewhere."""

    name: str
    took_ms: float


class Tracing:
    """This process's tracer, or nothing while `is_on` is False."""

    def __init__(self) -> None:
        self.is_on = False
        self._tracer: Tracer | None = None
        self._provider: TracerProvider | None = None

    def start(
        self, settings: TracingSettings, service: str, instance: str, exporter: SpanExporter | None = None
    ) -> None:
        """Send spans from now on, to `exporter` where one is given.

        Raises:
            ConfigurationError: the packages of the extra `tracing` are not installed.
        """
        try:
            provider = _provider(settings, service, instance, exporter)
        except ImportError as error:
            raise ConfigurationError(
                "[tracing] is set: pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http, or remove it"
            ) from error
        self._provider, self._tracer = provider, provider.get_tracer("tandem", __version__)
        self.is_on = True

    def stop(self) -> None:
        """Send what waits, for a few seconds at most, and be off."""
        self.is_on, provider = False, self._provider
        self._tracer = self._provider = None
        if provider is not None:
            provider.shutdown()

    @contextmanager
    def span(
        self, name: str, *, kind: Kind = Kind.INTERNAL, parent: str = "", attributes: Attributes | None = None
    ) -> Iterator[None]:
        """A span for as long as the block runs. `parent`: a traceparent from elsewhere; else the span under way."""
        if self._tracer is None:
            yield
            return
        from opentelemetry.trace import SpanKind, StatusCode

        with self._tracer.start_as_current_span(
            name,
            context=_context_of(parent),
            kind=SpanKind[kind.value],
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as error:
                span.set_status(StatusCode.ERROR, type(error).__name__)
                raise

    def note(self, attributes: Attributes) -> None:
        """Add to the span under way."""
        if self.is_on:
            _current().set_attributes(dict(attributes))

    def event(self, name: str, attributes: Attributes) -> None:
        """A moment of the span under way."""
        if self.is_on:
            _current().add_event(name, dict(attributes))

    def stages(self, stages: tuple[Stage, ...], ago_ms: float) -> None:
        """Spans one after the other, the first of which began `ago_ms` ago, below the span under way."""
        if self._tracer is None:
            return
        at_ns = time.time_ns() - round(ago_ms * 1e6)
        for stage in stages:
            span = self._tracer.start_span(stage.name, start_time=at_ns)
            at_ns += round(stage.took_ms * 1e6)
            span.end(at_ns)

    def traceparent(self) -> str:
        """The span under way, for whoever goes on with it; "" where there is none."""
        if not self.is_on:
            return ""
        context = _current().get_span_context()
        if not context.is_valid:
            return ""
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """`traceparent` as gRPC carries it."""
        word = self.traceparent()
        return ((HEADER, word),) if word else ()


TRACING = Tracing()
"""One a process, as OpenTelemetry's own."""


@contextmanager
def traced(settings: TracingSettings | None, service: str, instance: str = "") -> Iterator[None]:
    """Trace while the block runs, where `settings` say so.

    Raises:
        ConfigurationError: the packages of the extra `tracing` are not installed.
    """
    if settings is None:
        yield
        return
    TRACING.start(settings, service, instance)
    try:
        yield
    finally:
        TRACING.stop()


def _provider(settings: TracingSettings, service: str, instance: str, exporter: SpanExporter | None) -> TracerProvider:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    resource = Resource.create(
        {"service.name": service, "service.version": __version__, "service.instance.id": instance or service}
    )
    provider = TracerProvider(ParentBased(TraceIdRatioBased(settings.sample_ratio)), resource, shutdown_on_exit=False)
    if exporter is not None:
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        return provider
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    otlp = OTLPSpanExporter(settings.endpoint, timeout=_EXPORT_TIMEOUT_S)
    provider.add_span_processor(BatchSpanProcessor(otlp))
    return provider


def _context_of(traceparent: str) -> Context | None:
    if not traceparent:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({HEADER: traceparent})


def _current() -> trace.Span:
    from opentelemetry import trace

    return trace.get_current_span()
