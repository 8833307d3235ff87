"""What comes over the wire is checked before anyone believes it."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import topics
from shared.codec import (
    decode_answer,
    decode_presence,
    decode_request,
    decode_telemetry,
    encode_answer,
    encode_presence,
    encode_request,
    encode_telemetry,
)
from shared.errors import InputError, MessageError
from shared.histogram import HistogramRecorder
from shared.pb import inference_pb2
from shared.types import (
    CloudTimings,
    EscalationAnswer,
    EscalationRequest,
    GateReport,
    LabelScore,
    ModelIdentity,
    ModelTelemetry,
    Presence,
    Priority,
    Reason,
    RequestCounters,
)

IDENTITY = ModelIdentity("banking77", "1.0.0", "ab" * 32)


def histogram() -> HistogramRecorder:
    recorder = HistogramRecorder()
    for value in (0.1, 3.0, 250.0, 1e9):
        recorder.add(value)
    return recorder


TELEMETRY = ModelTelemetry(
    device_id="device-1",
    boot_id="b" * 32,
    sequence=7,
    sent_at_unix_ms=1_800_000_000_000,
    uptime_ms=5000,
    model=IDENTITY,
    variant="",
    counters=RequestCounters(
        received=10,
        rejected=1,
        accepted=9,
        edge=5,
        cloud=2,
        degraded=1,
        wanted=3,
        in_flight=1,
        attempted=4,
        served=2,
        timed_out=1,
        calls_in_flight=1,
    ),
    latency_by_outcome={"edge": histogram().snapshot()},
    reasons={"confident": 5, "uncertain": 2},
    gate=GateReport("max_probability", 0.0),
    cloud_link="closed",
)


def test_a_request_survives_the_wire() -> None:
    request = EscalationRequest(
        "r1", "banking77", "卡丢了 🙈", 3, Priority.REPLAY, "1.0.0", "lost_card", 0.5, Reason.REQUESTED
    )
    wire = encode_request(request).SerializeToString()
    assert decode_request(inference_pb2.InferRequest.FromString(wire)) == request


def test_an_answer_survives_the_wire() -> None:
    answer = EscalationAnswer("r1", IDENTITY, (LabelScore("a", 0.75),), CloudTimings(1.0, 2.0, 8.0, 4), True)
    assert decode_answer(inference_pb2.InferResponse.FromString(encode_answer(answer).SerializeToString())) == answer


def test_telemetry_survives_the_wire_with_a_threshold_of_zero() -> None:
    assert decode_telemetry(encode_telemetry(TELEMETRY)) == TELEMETRY


def test_no_threshold_is_not_a_threshold_of_zero() -> None:
    without = dataclasses.replace(TELEMETRY, gate=GateReport())
    assert decode_telemetry(encode_telemetry(without)).gate.threshold is None


def test_presence_survives_the_wire() -> None:
    presence = Presence("device-1", "b" * 32, True, 1, "0.1.0")
    assert decode_presence(encode_presence(presence)) == presence


@pytest.mark.parametrize("change", ["received", "accepted", "edge", "served", "attempted"])
def test_counters_that_do_not_add_up_are_refused(change: str) -> None:
    counters = dataclasses.replace(TELEMETRY.counters, **{change: getattr(TELEMETRY.counters, change) + 1})
    with pytest.raises(MessageError, match="add up"):
        decode_telemetry(encode_telemetry(dataclasses.replace(TELEMETRY, counters=counters)))


@pytest.mark.parametrize(
    "message",
    [
        inference_pb2.InferRequest(model="m", text="x"),
        inference_pb2.InferRequest(request_id="r" * 65, model="m"),
        inference_pb2.InferRequest(request_id="r", model=""),
        inference_pb2.InferRequest(request_id="r", model="a/b"),
        inference_pb2.InferRequest(request_id="r", model="m", top_k=100_000),
    ],
)
def test_a_malformed_request_is_refused(message: inference_pb2.InferRequest) -> None:
    with pytest.raises(MessageError):
        decode_request(message)


def test_an_answer_without_labels_is_refused() -> None:
    with pytest.raises(MessageError):
        decode_answer(inference_pb2.InferResponse(request_id="r"))


@given(st.binary(max_size=300))
def test_random_bytes_never_pass_as_telemetry_nor_crash(payload: bytes) -> None:
    for decode in (decode_telemetry, decode_presence):
        with pytest.raises(MessageError):
            decode(payload)


@given(st.integers(0, 2000), st.integers(0, 255))
def test_a_damaged_payload_is_refused_or_still_adds_up(position: int, value: int) -> None:
    payload = bytearray(encode_telemetry(TELEMETRY))
    payload[position % len(payload)] = value
    try:
        counters = decode_telemetry(bytes(payload)).counters
    except MessageError:
        return
    assert counters.received == counters.accepted + counters.rejected


def test_topics_are_read_as_they_are_made() -> None:
    assert topics.parse(topics.presence("d-1")) == topics.DeviceTopic("d-1", "presence")
    assert topics.parse(topics.telemetry("d-1", "m.2")) == topics.DeviceTopic("d-1", "telemetry", "m.2")


@pytest.mark.parametrize("device", ["", "a/b", "+", "#", "a b", "x" * 65, "é", ".hidden"])
def test_a_device_cannot_be_named_out_of_its_place(device: str) -> None:
    with pytest.raises(InputError):
        topics.presence(device)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "tandem/v1/devices",
        "tandem/v1/devices/d/other",
        "tandem/v2/devices/d/presence",
        "tandem/v1/devices/d/models/m/telemetry/x",
        "tandem/v1/devices//presence",
    ],
)
def test_a_foreign_topic_is_refused(topic: str) -> None:
    with pytest.raises(MessageError):
        topics.parse(topic)
