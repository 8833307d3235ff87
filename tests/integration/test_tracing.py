"""One trace over HTTP, gRPC and MQTT, between real processes, as a collector sees it."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from cloud_service.storage.engine import open_engine
from cloud_service.storage.policy_store import add_policy
from cloud_service.watch.orders import Order, make_policy
from cloud_service.watch.records import IssuedPolicy
from shared.bundle import Tier, read_bundle
from shared.tracing import TRACING, TracingSettings
from tests.support.agent_process import AgentProcess
from tests.support.fleet_process import CloudRole, wait_until
from tests.support.gateway_process import GatewayProcess
from tests.support.mosquitto import EXECUTABLE, Mosquitto
from tests.support.tiny_bundle import write_tiny_bundle
from tests.support.trace_collector import SeenSpan, TraceCollector

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="mosquitto is not installed")

_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
_CALLER = "00f067aa0ba902b7"


@pytest.fixture
def collector() -> Iterator[TraceCollector]:
    with TraceCollector() as collector:
        yield collector


def write_agent(folder: Path, collector: TraceCollector, more: str) -> Path:
    write_tiny_bundle(folder / "tiny")
    file = folder / "agent.toml"
    head = 'device_id = "d1"\nring = "first"\n[[models]]\nbundle = "tiny"\n[http]\nport = 0\n'
    file.write_text(f'{head}{more}\n[tracing]\nendpoint = "{collector.endpoint}"\n', encoding="utf-8")
    return file


def write_cloud(folder: Path, collector: TraceCollector, broker_port: int = 1) -> Path:
    write_tiny_bundle(folder / "full", tier=Tier.FULL)
    file = folder / "cloud.toml"
    file.write_text(
        f'data_dir = "data"\n[gateway]\nport = 0\nmetrics_port = 0\n[[gateway.models]]\nbundle = "full"\nthreads = 1\n'
        f"[broker]\nport = {broker_port}\n[fleet]\nmetrics_port = 0\ncommit_interval_ms = 100\n[web]\nport = 0\n"
        f'[tracing]\nendpoint = "{collector.endpoint}"\n',
        encoding="utf-8",
    )
    return file


def ask(agent: AgentProcess, body: object) -> None:
    header = {"traceparent": f"00-{_TRACE}-{_CALLER}-01"}
    request = urllib.request.Request(agent.url + "/v1/infer", json.dumps(body).encode(), header)
    with urllib.request.urlopen(request, timeout=10.0) as response:
        assert response.status == 200


def by_name(spans: list[SeenSpan], trace_id: str) -> dict[tuple[str, str], SeenSpan]:
    return {(span.service, span.name): span for span in spans if span.trace_id == trace_id}


def test_an_escalated_request_is_one_trace_from_the_application_to_the_full_model(
    tmp_path: Path, collector: TraceCollector
) -> None:
    with GatewayProcess(write_cloud(tmp_path, collector)) as gateway:
        cloud = f'[cloud]\naddress = "127.0.0.1:{gateway.port}"'
        with AgentProcess(write_agent(tmp_path, collector, cloud)) as agent:
            ask(agent, {"text": "card cash", "request_id": "r-1", "deadline_ms": 10_000})
            assert agent.terminate() == 0
        assert gateway.terminate() == 0
    spans = by_name(collector.spans(), _TRACE)
    http, answer = spans["tandem-edge", "POST /v1/infer"], spans["tandem-edge", "answer"]
    call, served = spans["tandem-edge", "escalate"], spans["tandem-gateway", "tandem.v1.Inference/Infer"]
    assert http.parent_id == _CALLER
    assert answer.parent_id == http.span_id
    assert call.parent_id == answer.span_id
    assert served.parent_id == call.span_id
    for stage in ("encode", "queue", "inference"):
        assert spans["tandem-edge", stage].parent_id == answer.span_id
    for stage in ("queue", "compute"):
        assert spans["tandem-gateway", stage].parent_id == served.span_id
    assert "gate" in answer.events
    assert "cloud" in answer.attributes["tandem.outcome"]
    assert "r-1" in answer.attributes["tandem.request_id"]
    assert not [body for body in collector.bodies if b"card" in body or b"cash" in body], "a request's text in a span"


def test_an_audit_belongs_to_the_trace_of_the_answer_that_it_audits(tmp_path: Path, collector: TraceCollector) -> None:
    with GatewayProcess(write_cloud(tmp_path, collector)) as gateway:
        more = f'[cloud]\naddress = "127.0.0.1:{gateway.port}"\n[audit]\nshare = 1.0\n'
        with AgentProcess(write_agent(tmp_path, collector, more)) as agent:
            ask(agent, {"text": "card"})
            spans = by_name(collector.wait_for(lambda seen: len(by_name(seen, _TRACE)) >= 8), _TRACE)
    audit = spans["tandem-edge", "audit"]
    assert audit.parent_id == spans["tandem-edge", "POST /v1/infer"].span_id or (
        audit.parent_id == spans["tandem-edge", "answer"].span_id
    )
    assert spans["tandem-gateway", "tandem.v1.Inference/Infer"].parent_id == audit.span_id


def test_a_report_over_mqtt_is_one_trace_from_the_device_to_the_fleet(
    tmp_path: Path, collector: TraceCollector
) -> None:
    with Mosquitto(tmp_path / "broker") as broker:
        config = write_cloud(tmp_path, collector, broker.port)
        more = f'[broker]\nhost = "127.0.0.1"\nport = {broker.port}\ntelemetry_interval_ms = 200\n'
        with CloudRole(config, "fleet"), AgentProcess(write_agent(tmp_path, collector, more)):
            spans = collector.wait_for(lambda seen: any(span.name == "take telemetry" for span in seen))
            taken = next(span for span in spans if span.name == "take telemetry")
            spans = collector.wait_for(
                lambda seen: ("tandem-edge", "report telemetry") in by_name(seen, taken.trace_id)
            )
    report = by_name(spans, taken.trace_id)["tandem-edge", "report telemetry"]
    assert taken.service == "tandem-fleet"
    assert taken.parent_id == report.span_id
    assert "d1" in taken.attributes["tandem.device"]


def test_a_policy_is_one_trace_from_the_action_to_the_device_that_obeys(
    tmp_path: Path, collector: TraceCollector
) -> None:
    with Mosquitto(tmp_path / "broker") as broker:
        config = write_cloud(tmp_path, collector, broker.port)
        more = f'[broker]\nhost = "127.0.0.1"\nport = {broker.port}\ntelemetry_interval_ms = 200\n'
        with CloudRole(config, "fleet") as fleet, AgentProcess(write_agent(tmp_path, collector, more)):
            heard = 'tandem_fleet_messages_total{kind="telemetry"}'
            wait_until(lambda: fleet.metric(heard) > 0, "the device's first report")
            trace_id = issue_a_policy(tmp_path)
            spans = collector.wait_for(lambda seen: len(by_name(seen, trace_id)) == 2)
    named = by_name(spans, trace_id)
    published, obeyed = named["tandem-fleet", "publish policy"], named["tandem-edge", "obey policy"]
    assert published.parent_id == obeyed.parent_id
    assert published.attributes["tandem.policy_id"] == obeyed.attributes["tandem.policy_id"]


def issue_a_policy(folder: Path) -> str:
    """As the operator's page does it, in a span. Returns the trace's id."""
    gate = read_bundle(folder / "tiny").gate
    assert gate is not None
    TRACING.start(TracingSettings(), "page", "here", InMemorySpanExporter())
    try:
        with TRACING.span("issue policy"):
            now_ms = int(time.time() * 1e3)
            order = Order(escalate_all=True, reason="a test")
            policy = make_policy(
                gate, order, model="tiny", ring="first", newest_sequence=0, issued_by="anna", now_unix_ms=now_ms
            )
    finally:
        TRACING.stop()
    engine = open_engine(f"sqlite:///{folder / 'data' / 'fleet.sqlite'}", writes=True)
    with engine.begin() as connection:
        add_policy(connection, IssuedPolicy(policy, "first", now_ms // 1000))
    engine.dispose()
    return policy.traceparent.split("-")[1]


def test_with_nobody_to_take_the_spans_requests_are_answered_as_ever(tmp_path: Path) -> None:
    with TraceCollector() as gone:
        pass
    with AgentProcess(write_agent(tmp_path, gone, "")) as agent:
        ask(agent, {"text": "card"})
        assert agent.terminate() == 0
