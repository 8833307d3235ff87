"""Tracing: off by default, one trace where somebody else's is gone on with, and no words of a request in it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from pydantic import ValidationError

from shared.tracing import TRACING, Kind, Stage, Tracing, TracingSettings, traced

_PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
_NOT_SAMPLED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    TRACING.start(TracingSettings(), "test", "here", exporter)
    yield exporter
    TRACING.stop()


def test_off_it_says_nothing_and_does_nothing() -> None:
    tracing = Tracing()
    with tracing.span("nothing", parent=_PARENT):
        assert tracing.traceparent() == ""
        assert tracing.metadata() == ()
        tracing.stages((Stage("part", 1.0),), 1.0)
    assert not tracing.is_on
    with traced(None, "test"):
        assert not TRACING.is_on


def test_a_span_goes_on_with_the_trace_that_it_is_told_of(spans: InMemorySpanExporter) -> None:
    with TRACING.span("outer", kind=Kind.SERVER, parent=_PARENT), TRACING.span("inner"):
        told = TRACING.traceparent()
        assert TRACING.metadata() == (("traceparent", told),)
    inner, outer = spans.get_finished_spans()
    assert f"{outer.context.trace_id:032x}" == _PARENT.split("-")[1] == told.split("-")[1]
    assert outer.parent is not None and f"{outer.parent.span_id:016x}" == _PARENT.split("-")[2]
    assert inner.parent is not None and inner.parent.span_id == outer.context.span_id
    assert TRACING.traceparent() == ""


@pytest.mark.parametrize("parent", ["", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "x" * 500])
def test_a_parent_that_is_none_begins_a_new_trace(spans: InMemorySpanExporter, parent: str) -> None:
    with TRACING.span("alone", parent=parent):
        pass
    (alone,) = spans.get_finished_spans()
    assert alone.parent is None


def test_whoever_began_the_trace_decides_whether_it_is_kept(spans: InMemorySpanExporter) -> None:
    with TRACING.span("not kept", parent=_NOT_SAMPLED):
        assert TRACING.traceparent().endswith("-00")
    assert not spans.get_finished_spans()


def test_a_ratio_of_zero_keeps_none_but_those_begun_elsewhere() -> None:
    exporter, tracing = InMemorySpanExporter(), Tracing()
    tracing.start(TracingSettings(sample_ratio=0.0), "test", "here", exporter)
    with tracing.span("mine"):
        pass
    with tracing.span("theirs", parent=_PARENT):
        pass
    assert [span.name for span in exporter.get_finished_spans()] == ["theirs"]
    tracing.stop()


def test_an_error_is_named_and_not_quoted(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="secret"), TRACING.span("fails"):
        raise ValueError("the secret text")
    (failed,) = spans.get_finished_spans()
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.status.description == "ValueError"
    assert "secret" not in failed.to_json()


def test_stages_lie_one_after_the_other_below_the_span_under_way(spans: InMemorySpanExporter) -> None:
    with TRACING.span("request"):
        TRACING.stages((Stage("encode", 2.0), Stage("compute", 5.0)), 7.0)
        TRACING.event("gate", {"keep": True})
        TRACING.note({"outcome": "edge"})
    encode, compute, request = spans.get_finished_spans()
    assert encode.end_time == compute.start_time
    assert compute.end_time is not None and compute.start_time is not None
    assert compute.end_time - compute.start_time == 5_000_000
    assert compute.parent is not None and compute.parent.span_id == request.context.span_id
    assert [event.name for event in request.events] == ["gate"]
    assert request.attributes is not None and request.attributes["outcome"] == "edge"


@pytest.mark.parametrize("endpoint", ["ftp://127.0.0.1/", "127.0.0.1:4318", "http://collector.example/v1/traces", ""])
def test_an_endpoint_in_clear_elsewhere_or_none_at_all_is_refused(endpoint: str) -> None:
    with pytest.raises(ValidationError):
        TracingSettings(endpoint=endpoint)


def test_without_the_packages_a_set_table_is_a_clear_error() -> None:
    program = (
        "import sys; sys.modules['opentelemetry.sdk.trace'] = None\n"
        "from shared.errors import ConfigurationError\n"
        "from shared.tracing import TracingSettings, traced\n"
        "try:\n"
        "    with traced(TracingSettings(), 'test'): pass\n"
        "except ConfigurationError as error: print(error)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install opentelemetry-sdk" in ended.stdout


def test_off_nothing_of_opentelemetry_is_imported() -> None:
    program = (
        "import sys; from shared.tracing import TRACING; TRACING.traceparent()\n"
        "print(sorted(name for name in sys.modules if name.startswith('opentelemetry')))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
