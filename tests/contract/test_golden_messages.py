"""Bytes that were once sent still say the same: what is deployed must keep talking."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.protobuf.descriptor import FileDescriptor

from shared.codec import decode_answer, decode_presence, decode_request, decode_telemetry
from shared.pb import fleet_pb2, inference_pb2
from shared.types import (
    CloudTimings,
    EscalationAnswer,
    EscalationRequest,
    GateReport,
    LabelScore,
    LatencyHistogram,
    ModelIdentity,
    ModelTelemetry,
    Presence,
    Priority,
    Reason,
    RequestCounters,
)

GOLDEN = Path(__file__).parent / "golden"
PROTO = Path(__file__).parents[2] / "proto" / "shared" / "pb"

REQUEST = EscalationRequest(
    "0f8fad5bd9cb469fa16570867728950e",
    "banking77",
    "卡还没到 📮",
    3,
    Priority.AUDIT,
    "1.0.0",
    "card_arrival",
    0.5,
    Reason.UNCERTAIN,
)
ANSWER = EscalationAnswer(
    "0f8fad5bd9cb469fa16570867728950e",
    ModelIdentity("banking77", "1.0.0", "ab" * 32),
    (LabelScore("card_arrival", 0.875), LabelScore("lost_or_stolen_card", 0.125)),
    CloudTimings(1.5, 2.25, 9.0, 4),
    True,
)
PRESENCE = Presence("device-1", "6ba7b8109dad11d180b400c04fd430c8", True, 1_800_000_000_123, "0.1.0")
TELEMETRY = ModelTelemetry(
    "device-1",
    "6ba7b8109dad11d180b400c04fd430c8",
    42,
    1_800_000_000_456,
    90_000,
    ModelIdentity("banking77", "1.0.0", "cd" * 32),
    "b",
    RequestCounters(
        received=100,
        rejected=2,
        accepted=98,
        edge=80,
        cloud=12,
        degraded=3,
        failed=1,
        in_flight=2,
        wanted=16,
        attempted=15,
        served=12,
        call_failed=1,
        timed_out=1,
        calls_in_flight=1,
    ),
    {"edge": LatencyHistogram((0, 80, *[0] * 71), 26.5)},
    {"confident": 80, "uncertain": 12, "circuit_open": 3},
    GateReport("max_probability", 0.8125),
    "half_open",
)


def test_an_old_request_is_still_read() -> None:
    message = inference_pb2.InferRequest.FromString((GOLDEN / "infer_request.bin").read_bytes())
    assert decode_request(message) == REQUEST


def test_an_old_answer_is_still_read() -> None:
    message = inference_pb2.InferResponse.FromString((GOLDEN / "infer_response.bin").read_bytes())
    assert decode_answer(message) == ANSWER


def test_an_old_presence_is_still_read() -> None:
    assert decode_presence((GOLDEN / "presence.bin").read_bytes()) == PRESENCE


def test_an_old_telemetry_is_still_read() -> None:
    assert decode_telemetry((GOLDEN / "telemetry.bin").read_bytes()) == TELEMETRY


def numbers(file: FileDescriptor) -> set[str]:
    """Every field as "Message.field = number"; enum values likewise."""
    fields = {
        f"{message.name}.{field.name} = {field.number}"
        for message in file.message_types_by_name.values()
        for field in message.fields
    }
    values = {f"{value.name} = {value.number}" for kind in file.enum_types_by_name.values() for value in kind.values}
    return fields | values


@pytest.mark.parametrize(("file", "name"), [(inference_pb2.DESCRIPTOR, "inference"), (fleet_pb2.DESCRIPTOR, "fleet")])
def test_no_field_number_was_changed_dropped_or_used_again(file: FileDescriptor, name: str) -> None:
    ever_used = set((GOLDEN / f"{name}_numbers.txt").read_text(encoding="utf-8").splitlines())
    source = (PROTO / f"{name}.proto").read_text(encoding="utf-8")
    assert numbers(file) <= ever_used, "add the new fields to the list of numbers ever used"
    for gone in ever_used - numbers(file):
        number = gone.rpartition(" ")[2]
        assert re.search(rf"reserved [^;]*\b{number}\b", source), f"{gone} is gone: reserve its number"
