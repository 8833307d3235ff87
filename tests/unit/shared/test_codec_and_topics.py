"""What comes over the wire is checked before anyone believes it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import topics
from shared.codec import (
    MAX_TRUE_LABELS,
    decode_answer,
    decode_policy,
    decode_presence,
    decode_request,
    decode_telemetry,
    decode_true_labels,
    encode_answer,
    encode_policy,
    encode_presence,
    encode_request,
    encode_telemetry,
    encode_true_labels,
)
from shared.errors import InputError, MessageError
from shared.histogram import HistogramRecorder
from shared.pb import fleet_pb2, inference_pb2
from shared.types import (
    AuditCounts,
    CloudTimings,
    EscalationAnswer,
    EscalationRequest,
    GatePolicy,
    GateReport,
    LabelCounts,
    LabelScore,
    ModelIdentity,
    ModelTelemetry,
    Presence,
    Priority,
    Reason,
    RequestCounters,
    StepCounts,
    TrueLabel,
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
    gate=GateReport("max_probability", 0.0, "d" * 64, {"kept-error": 0.05}, "p1", "p2", "not certified"),
    cloud_link="closed",
    ring="early",
    audits=AuditCounts(chosen=10, agreed=5, disagreed=2, failed=2, in_flight=1),
    audit_steps=(StepCounts(0.9, 4, 0), StepCounts(0.0, 7, 2)),
    label_steps=(StepCounts(0.9, 1, 1), StepCounts(0.0, 1, 1)),
    labels={"卡": LabelCounts(6, 2, 4, 1, 1, 1), "می\u200cخواهم": LabelCounts(3, 1)},
    score_counts=(0, 4, 5),
)
POLICY = GatePolicy(
    policy_id="p7",
    sequence=7,
    model="banking77",
    gate_digest="d" * 64,
    in_force={"kept-error": 0.05, "kept-disagreement": 0.1},
    escalate_all=True,
    least_threshold=0.0,
    audit_share=0.0,
    offload_cap=1.0,
    budget_in_force={"kept-error": 0.1},
    reason="disagreement passed 5%",
    issued_by="监控",
    issued_at_unix_ms=1_800_000_000_000,
)
TRUE_LABEL = TrueLabel("r1", "banking77", "丢卡", "card", 0.5, "1.0.0", -0.25, "d" * 64, True, 1_800_000_000_000)


def test_a_request_survives_the_wire() -> None:
    request = EscalationRequest(
        "r1",
        "banking77",
        "卡丢了 🙈",
        3,
        Priority.AUDIT,
        "1.0.0",
        "lost_card",
        0.5,
        Reason.CONFIDENT,
        -0.25,
        "d" * 64,
        True,
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
    presence = Presence("device-1", "b" * 32, True, 1, "0.1.0", "early")
    assert decode_presence(encode_presence(presence)) == presence


def test_a_policy_survives_the_wire_with_a_threshold_and_a_share_of_zero() -> None:
    assert decode_policy(encode_policy(POLICY)) == POLICY


def test_what_a_policy_leaves_unsaid_is_not_zero() -> None:
    unsaid = GatePolicy("p1", 1, "banking77", "d" * 64)
    assert decode_policy(encode_policy(unsaid)) == unsaid
    assert unsaid.audit_share is unsaid.least_threshold is unsaid.offload_cap is None


def test_true_labels_survive_the_wire() -> None:
    labels = (TRUE_LABEL, dataclasses.replace(TRUE_LABEL, request_id="r2", kept=False, gate_digest=""))
    wire = encode_true_labels(labels).SerializeToString()
    assert decode_true_labels(inference_pb2.ReportLabelsRequest.FromString(wire)) == labels


@pytest.mark.parametrize(
    "label",
    [
        dataclasses.replace(TRUE_LABEL, request_id=""),
        dataclasses.replace(TRUE_LABEL, request_id="r" * 65),
        dataclasses.replace(TRUE_LABEL, model="a/b"),
        dataclasses.replace(TRUE_LABEL, gate_score=float("nan")),
        dataclasses.replace(TRUE_LABEL, gate_digest="\n"),
    ],
)
def test_a_malformed_true_label_is_refused(label: TrueLabel) -> None:
    with pytest.raises(MessageError):
        decode_true_labels(encode_true_labels([label]))


def test_more_true_labels_than_are_taken_at_once_are_refused() -> None:
    with pytest.raises(MessageError, match="are more than"):
        decode_true_labels(encode_true_labels([TRUE_LABEL] * (MAX_TRUE_LABELS + 1)))


@pytest.mark.parametrize(
    "change",
    [
        {"policy_id": ""},
        {"model": "#"},
        {"audit_share": 1.5},
        {"offload_cap": float("nan")},
        {"least_threshold": float("inf")},
        {"in_force": {"kept-error": float("nan")}},
        {"reason": "two\nlines"},
    ],
)
def test_a_malformed_policy_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(MessageError):
        decode_policy(encode_policy(dataclasses.replace(POLICY, **change)))


@pytest.mark.parametrize("change", ["chosen", "agreed", "disagreed", "failed", "in_flight"])
def test_audits_that_do_not_add_up_are_refused(change: str) -> None:
    audits = dataclasses.replace(TELEMETRY.audits, **{change: getattr(TELEMETRY.audits, change) + 1})
    with pytest.raises(MessageError, match="audits do not add up"):
        decode_telemetry(encode_telemetry(dataclasses.replace(TELEMETRY, audits=audits)))


def test_steps_with_more_wrong_than_judged_answers_are_refused() -> None:
    with pytest.raises(MessageError, match="more answers are wrong"):
        decode_telemetry(encode_telemetry(dataclasses.replace(TELEMETRY, label_steps=(StepCounts(0.5, 1, 2),))))


def test_a_device_of_an_older_tandem_is_in_the_default_ring() -> None:
    wire = fleet_pb2.DevicePresence.FromString(encode_presence(Presence("device-1", "b" * 32, True, 1, "0.1.0")))
    wire.ring = ""
    assert decode_presence(wire.SerializeToString()).ring == "default"


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
    for decode in (decode_telemetry, decode_presence, decode_policy):
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
    last = topics.parse(topics.last_word("d-1", "m.2", 3))
    assert last == topics.DeviceTopic("d-1", "telemetry", "m.2", has_ended=True)


def test_a_ring_and_a_slot_cannot_be_named_out_of_their_place() -> None:
    assert topics.policy("early", "m.2", "9f") == "tandem/v1/rings/early/models/m.2/gates/9f/policy"
    for ring, model, gate in (("a/b", "m", "9f"), ("+", "m", "9f"), ("r", "#", "9f"), ("r", "m", "")):
        with pytest.raises(InputError):
            topics.policy(ring, model, gate)
    with pytest.raises(InputError):
        topics.last_word("d-1", "m", topics.LAST_WORD_SLOTS)


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
        "tandem/v1/devices/d/models/m/last/4",
        "tandem/v1/devices/d/models/m/last",
        "tandem/v1/devices/d/models/m/last/0/x",
    ],
)
def test_a_foreign_topic_is_refused(topic: str) -> None:
    with pytest.raises(MessageError):
        topics.parse(topic)
