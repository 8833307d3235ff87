"""Between the wire's protobuf messages and the frozen types that the rest of the code knows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, fields

from google.protobuf.message import DecodeError

from shared.errors import InputError, MessageError
from shared.histogram import BOUNDS_MS
from shared.pb import fleet_pb2, inference_pb2
from shared.types import (
    CloudTimings,
    EscalationAnswer,
    EscalationRequest,
    LabelScore,
    LatencyHistogram,
    ModelIdentity,
    ModelTelemetry,
    Outcome,
    Presence,
    Priority,
    Reason,
    RequestCounters,
    checked_identifier,
)

MAX_REQUEST_ID_CHARACTERS = 64
_MAX_TOP_K = 1000
_BUCKETS = len(BOUNDS_MS) + 1
_COUNTER_NAMES = tuple(field.name for field in fields(RequestCounters))


def encode_request(request: EscalationRequest) -> inference_pb2.InferRequest:
    """The wire form of `request`."""
    return inference_pb2.InferRequest(
        request_id=request.request_id,
        model=request.model,
        text=request.text,
        top_k=request.top_k,
        priority=_PRIORITY_TO_WIRE[request.priority],
        edge_answer=inference_pb2.EdgeAnswer(
            label=request.edge_label, score=request.edge_score, model_version=request.edge_model_version
        ),
        reason=request.reason.value,
    )


def decode_request(message: inference_pb2.InferRequest) -> EscalationRequest:
    """Check and take in a request.

    Raises:
        MessageError: a field is missing or out of range.
    """
    if not 1 <= len(message.request_id) <= MAX_REQUEST_ID_CHARACTERS:
        raise MessageError(f"request_id must have 1 to {MAX_REQUEST_ID_CHARACTERS} characters")
    if message.top_k > _MAX_TOP_K:
        raise MessageError(f"top_k must be at most {_MAX_TOP_K}")
    return EscalationRequest(
        request_id=message.request_id,
        model=_identifier("model", message.model),
        text=message.text,
        top_k=message.top_k or EscalationRequest.top_k,
        priority=_PRIORITY_FROM_WIRE.get(message.priority, Priority.INTERACTIVE),
        edge_model_version=message.edge_answer.model_version,
        edge_label=message.edge_answer.label,
        edge_score=message.edge_answer.score,
        reason=_reason(message.reason),
    )


def encode_identity(identity: ModelIdentity) -> inference_pb2.ModelIdentity:
    """The wire form of `identity`."""
    return inference_pb2.ModelIdentity(name=identity.name, version=identity.version, digest=identity.digest)


def decode_identity(message: inference_pb2.ModelIdentity) -> ModelIdentity:
    """Take in a model's identity.

    Raises:
        MessageError: the name is not one.
    """
    return ModelIdentity(_identifier("model", message.name), message.version, message.digest)


def encode_answer(answer: EscalationAnswer) -> inference_pb2.InferResponse:
    """The wire form of `answer`."""
    timings = answer.timings
    return inference_pb2.InferResponse(
        request_id=answer.request_id,
        model=encode_identity(answer.model),
        top=[inference_pb2.LabelScore(label=item.label, score=item.score) for item in answer.top],
        timings=inference_pb2.Timings(
            queue_ms=timings.queue_ms,
            compute_ms=timings.compute_ms,
            batch_ms=timings.batch_ms,
            batch_size=timings.batch_size,
        ),
        replayed=answer.replayed,
    )


def decode_answer(message: inference_pb2.InferResponse) -> EscalationAnswer:
    """Take in an answer.

    Raises:
        MessageError: it holds no label, or a score that is not a probability.
    """
    top = tuple(LabelScore(item.label, item.score) for item in message.top)
    if not top or any(not 0.0 <= item.score <= 1.0 + 1e-6 for item in top):
        raise MessageError("the answer holds no label, or a score outside [0, 1]")
    timings = message.timings
    return EscalationAnswer(
        request_id=message.request_id,
        model=decode_identity(message.model),
        top=top,
        timings=CloudTimings(timings.queue_ms, timings.compute_ms, timings.batch_ms, timings.batch_size),
        replayed=message.replayed,
    )


def encode_presence(presence: Presence) -> bytes:
    """The MQTT payload of `presence`."""
    return fleet_pb2.DevicePresence(**asdict(presence)).SerializeToString(deterministic=True)


def decode_presence(payload: bytes) -> Presence:
    """Take in a presence payload.

    Raises:
        MessageError: not such a message, a device id that is not one, or unprintable text.
    """
    message = fleet_pb2.DevicePresence()
    _parse(message, payload)
    return Presence(
        _identifier("device", message.device_id),
        _boot(message.boot_id),
        message.online,
        message.sent_at_unix_ms,
        _printable("agent_version", message.agent_version, 64),
    )


def encode_telemetry(telemetry: ModelTelemetry) -> bytes:
    """The MQTT payload of `telemetry`."""
    message = fleet_pb2.DeviceModelTelemetry(
        device_id=telemetry.device_id,
        boot_id=telemetry.boot_id,
        sequence=telemetry.sequence,
        sent_at_unix_ms=telemetry.sent_at_unix_ms,
        uptime_ms=telemetry.uptime_ms,
        model=telemetry.model.name,
        model_version=telemetry.model.version,
        model_digest=telemetry.model.digest,
        variant=telemetry.variant,
        counters=fleet_pb2.Counters(**asdict(telemetry.counters)),
        latency_by_outcome={
            outcome: fleet_pb2.Histogram(counts=histogram.counts, sum_ms=histogram.sum_ms)
            for outcome, histogram in telemetry.latency_by_outcome.items()
        },
        reasons=telemetry.reasons,
        gate=fleet_pb2.GateState(score=telemetry.gate_score, threshold=telemetry.gate_threshold),
        cloud_link=telemetry.cloud_link,
    )
    return message.SerializeToString(deterministic=True)


def decode_telemetry(payload: bytes) -> ModelTelemetry:
    """Take in a telemetry payload.

    Raises:
        MessageError: not such a message, names that are none, unprintable text, a threshold that is no
            number, counters that break their sums, or histograms of other buckets.
    """
    message = fleet_pb2.DeviceModelTelemetry()
    _parse(message, payload)
    return ModelTelemetry(
        device_id=_identifier("device", message.device_id),
        boot_id=_boot(message.boot_id),
        sequence=message.sequence,
        sent_at_unix_ms=message.sent_at_unix_ms,
        uptime_ms=message.uptime_ms,
        model=ModelIdentity(
            _identifier("model", message.model),
            _identifier("version", message.model_version),
            _printable("model_digest", message.model_digest, 64),
        ),
        variant=_identifier("variant", message.variant) if message.variant else "",
        counters=_counters(message.counters),
        latency_by_outcome=_histograms(message.latency_by_outcome),
        reasons=_reason_counts(message.reasons),
        gate_score=_printable("gate.score", message.gate.score, 64),
        gate_threshold=_threshold(message.gate),
        cloud_link=_printable("cloud_link", message.cloud_link, 16),
    )


_PRIORITY_TO_WIRE = {
    Priority.INTERACTIVE: inference_pb2.PRIORITY_INTERACTIVE,
    Priority.AUDIT: inference_pb2.PRIORITY_AUDIT,
    Priority.REPLAY: inference_pb2.PRIORITY_REPLAY,
}
_PRIORITY_FROM_WIRE: Mapping[int, Priority] = {wire: priority for priority, wire in _PRIORITY_TO_WIRE.items()}


def _parse(message: fleet_pb2.DevicePresence | fleet_pb2.DeviceModelTelemetry, payload: bytes) -> None:
    try:
        message.ParseFromString(payload)
    except DecodeError as error:
        raise MessageError(f"{len(payload)} bytes are not a {type(message).__name__}") from error


def _identifier(kind: str, value: str) -> str:
    try:
        return checked_identifier(kind, value)
    except InputError as error:
        raise MessageError(str(error)) from error


def _boot(value: str) -> str:
    return _identifier("boot_id", value)


def _printable(name: str, value: str, characters: int) -> str:
    if not value.isprintable():
        raise MessageError(f"{name} {value!r} is not printable")
    return value[:characters]


def _threshold(gate: fleet_pb2.GateState) -> float | None:
    if not gate.HasField("threshold"):
        return None
    if not math.isfinite(gate.threshold):
        raise MessageError(f"the gate's threshold {gate.threshold} is no number")
    return gate.threshold


def _reason(value: str) -> Reason:
    try:
        return Reason(value)
    except ValueError:
        return Reason.UNCERTAIN


def _counters(message: fleet_pb2.Counters) -> RequestCounters:
    counters = RequestCounters(**{name: int(getattr(message, name)) for name in _COUNTER_NAMES})
    ended = counters.edge + counters.cloud + counters.degraded + counters.failed
    calls = counters.served + counters.call_failed + counters.timed_out
    if (
        counters.received != counters.accepted + counters.rejected
        or counters.accepted != ended + counters.in_flight
        or counters.attempted != calls + counters.calls_in_flight
        or counters.wanted > counters.accepted
    ):
        raise MessageError(f"the counters do not add up: {counters}")
    return counters


def _histograms(wire: Mapping[str, fleet_pb2.Histogram]) -> dict[str, LatencyHistogram]:
    known = {outcome.value for outcome in Outcome}
    histograms = {}
    for outcome, histogram in wire.items():
        if outcome not in known or len(histogram.counts) != _BUCKETS or not math.isfinite(histogram.sum_ms):
            raise MessageError(f"the latency histogram of {outcome!r} is not of {_BUCKETS} buckets")
        histograms[outcome] = LatencyHistogram(tuple(histogram.counts), histogram.sum_ms)
    return histograms


def _reason_counts(wire: Mapping[str, int]) -> dict[str, int]:
    known = {reason.value for reason in Reason}
    return {reason: count for reason, count in wire.items() if reason in known}
