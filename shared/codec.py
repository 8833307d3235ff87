"""Between the wire's protobuf messages and the frozen types that the rest of the code knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from google.protobuf.message import DecodeError

from shared.errors import MessageError
from shared.pb import fleet_pb2, inference_pb2
from shared.types import (
    DEFAULT_RING,
    AuditCounts,
    CloudTimings,
    EscalationAnswer,
    EscalationRequest,
    GatePolicy,
    GateReport,
    LabelCounts,
    LabelScore,
    LatencyHistogram,
    ModelIdentity,
    ModelTelemetry,
    Presence,
    Priority,
    Reason,
    RequestCounters,
    StepCounts,
    TrueLabel,
)
from shared.wire_checks import TelemetryHead, audit_values, checked_head, counter_values, label_values
from shared.wire_checks import finite as _finite
from shared.wire_checks import identifier as _identifier
from shared.wire_checks import printable as _printable

MAX_REQUEST_ID_CHARACTERS = 64
MAX_TRUE_LABELS = 1000
_MAX_TOP_K = 1000
_REASONS = frozenset(reason.value for reason in Reason)


def encode_request(request: EscalationRequest) -> inference_pb2.InferRequest:
    """The wire form of `request`."""
    return inference_pb2.InferRequest(
        request_id=request.request_id,
        model=request.model,
        text=request.text,
        top_k=request.top_k,
        priority=_PRIORITY_TO_WIRE[request.priority],
        edge_answer=inference_pb2.EdgeAnswer(
            label=request.edge_label,
            score=request.edge_score,
            model_version=request.edge_model_version,
            gate_score=request.gate_score,
            gate_digest=request.gate_digest,
            kept=request.kept,
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
        gate_score=_finite("edge_answer.gate_score", message.edge_answer.gate_score),
        gate_digest=_printable("edge_answer.gate_digest", message.edge_answer.gate_digest, 64),
        kept=message.edge_answer.kept,
    )


def encode_true_labels(labels: Sequence[TrueLabel]) -> inference_pb2.ReportLabelsRequest:
    """The wire form of labels that came back."""
    return inference_pb2.ReportLabelsRequest(
        labels=[
            inference_pb2.TrueLabel(
                request_id=each.request_id,
                model=each.model,
                edge_answer=inference_pb2.EdgeAnswer(
                    label=each.edge_label,
                    score=each.edge_score,
                    model_version=each.edge_model_version,
                    gate_score=each.gate_score,
                    gate_digest=each.gate_digest,
                    kept=each.kept,
                ),
                label=each.label,
                answered_at_unix_ms=each.answered_at_unix_ms,
            )
            for each in labels
        ]
    )


def decode_true_labels(message: inference_pb2.ReportLabelsRequest) -> tuple[TrueLabel, ...]:
    """Check and take in labels that came back.

    Raises:
        MessageError: there are too many, or a field is missing or out of range.
    """
    if len(message.labels) > MAX_TRUE_LABELS:
        raise MessageError(f"{len(message.labels)} labels are more than {MAX_TRUE_LABELS}")
    return tuple(_true_label(each) for each in message.labels)


def _true_label(message: inference_pb2.TrueLabel) -> TrueLabel:
    if not 1 <= len(message.request_id) <= MAX_REQUEST_ID_CHARACTERS:
        raise MessageError(f"request_id must have 1 to {MAX_REQUEST_ID_CHARACTERS} characters")
    answer = message.edge_answer
    return TrueLabel(
        request_id=message.request_id,
        model=_identifier("model", message.model),
        label=message.label,
        edge_label=answer.label,
        edge_score=answer.score,
        edge_model_version=answer.model_version,
        gate_score=_finite("edge_answer.gate_score", answer.gate_score),
        gate_digest=_printable("edge_answer.gate_digest", answer.gate_digest, 64),
        kept=answer.kept,
        answered_at_unix_ms=message.answered_at_unix_ms,
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
        _ring(message.ring),
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
        gate=fleet_pb2.GateState(**asdict(telemetry.gate)),
        cloud_link=telemetry.cloud_link,
        ring=telemetry.ring,
        audits=fleet_pb2.AuditCounts(**asdict(telemetry.audits)),
        audit_steps=[fleet_pb2.StepCounts(**asdict(each)) for each in telemetry.audit_steps],
        label_steps=[fleet_pb2.StepCounts(**asdict(each)) for each in telemetry.label_steps],
        labels={label: fleet_pb2.LabelCounts(**asdict(counts)) for label, counts in telemetry.labels.items()},
        score_counts=telemetry.score_counts,
        traceparent=telemetry.traceparent,
    )
    return message.SerializeToString(deterministic=True)


def decode_telemetry(payload: bytes) -> ModelTelemetry:
    """Take in a telemetry payload.

    Raises:
        MessageError: not such a message, or one that `shared.wire_checks.checked_head` refuses.
    """
    message = fleet_pb2.DeviceModelTelemetry()
    _parse(message, payload)
    checked_head(message)
    return _telemetry(message)


def read_telemetry_head(payload: bytes) -> TelemetryHead:
    """Check a telemetry payload as `decode_telemetry` does, several times faster, and say what it tells of.

    Raises:
        MessageError: as `decode_telemetry`.
    """
    message = fleet_pb2.DeviceModelTelemetry()
    _parse(message, payload)
    return checked_head(message)


def decode_sound_telemetry(payload: bytes) -> ModelTelemetry:
    """Take in a payload that `read_telemetry_head` has found sound."""
    message = fleet_pb2.DeviceModelTelemetry()
    _parse(message, payload)
    return _telemetry(message)


def encode_policy(policy: GatePolicy) -> bytes:
    """The MQTT payload of `policy`."""
    return fleet_pb2.GatePolicy(**asdict(policy)).SerializeToString(deterministic=True)


def decode_policy(payload: bytes) -> GatePolicy:
    """Take in a policy.

    Raises:
        MessageError: not such a message, names that are none, unprintable text, or a share outside [0, 1].
    """
    message = fleet_pb2.GatePolicy()
    _parse(message, payload)
    return GatePolicy(
        policy_id=_identifier("policy_id", message.policy_id),
        sequence=message.sequence,
        model=_identifier("model", message.model),
        gate_digest=_printable("gate_digest", message.gate_digest, 64),
        in_force=_alphas(message.in_force),
        escalate_all=message.escalate_all,
        least_threshold=_optional(message, "least_threshold"),
        audit_share=_share(message, "audit_share"),
        offload_cap=_share(message, "offload_cap"),
        budget_in_force=_alphas(message.budget_in_force),
        reason=_printable("reason", message.reason, 500),
        issued_by=_printable("issued_by", message.issued_by, 64),
        issued_at_unix_ms=message.issued_at_unix_ms,
        traceparent=_printable("traceparent", message.traceparent, 64),
    )


_PRIORITY_TO_WIRE = {
    Priority.INTERACTIVE: inference_pb2.PRIORITY_INTERACTIVE,
    Priority.AUDIT: inference_pb2.PRIORITY_AUDIT,
    Priority.REPLAY: inference_pb2.PRIORITY_REPLAY,
}
_PRIORITY_FROM_WIRE: Mapping[int, Priority] = {wire: priority for priority, wire in _PRIORITY_TO_WIRE.items()}


def _parse(
    message: fleet_pb2.DevicePresence | fleet_pb2.DeviceModelTelemetry | fleet_pb2.GatePolicy, payload: bytes
) -> None:
    try:
        message.ParseFromString(payload)
    except DecodeError as error:
        raise MessageError(f"{len(payload)} bytes are not a {type(message).__name__}") from error


def _boot(value: str) -> str:
    return _identifier("boot_id", value)


def _ring(value: str) -> str:
    return _identifier("ring", value) if value else DEFAULT_RING


def _optional(message: fleet_pb2.GatePolicy, name: str) -> float | None:
    return _finite(name, getattr(message, name)) if message.HasField(name) else None


def _share(message: fleet_pb2.GatePolicy, name: str) -> float | None:
    share = _optional(message, name)
    if share is not None and not 0.0 <= share <= 1.0:
        raise MessageError(f"{name} {share} is no share in [0, 1]")
    return share


def _alphas(wire: Mapping[str, float]) -> dict[str, float]:
    return {_printable("risk", risk, 64): _finite("alpha", alpha) for risk, alpha in wire.items()}


def _telemetry(message: fleet_pb2.DeviceModelTelemetry) -> ModelTelemetry:
    """What the checked `message` tells."""
    return ModelTelemetry(
        device_id=message.device_id,
        boot_id=message.boot_id,
        sequence=message.sequence,
        sent_at_unix_ms=message.sent_at_unix_ms,
        uptime_ms=message.uptime_ms,
        model=ModelIdentity(message.model, message.model_version, message.model_digest[:64]),
        variant=message.variant,
        counters=RequestCounters(*counter_values(message.counters)),
        latency_by_outcome={
            outcome: LatencyHistogram(tuple(histogram.counts[:]), histogram.sum_ms)
            for outcome, histogram in message.latency_by_outcome.items()
        },
        reasons={reason: count for reason, count in message.reasons.items() if reason in _REASONS},
        gate=_gate(message.gate),
        cloud_link=message.cloud_link[:16],
        ring=message.ring or DEFAULT_RING,
        audits=AuditCounts(*audit_values(message.audits)),
        audit_steps=_steps(message.audit_steps),
        label_steps=_steps(message.label_steps),
        labels={label: LabelCounts(*label_values(counts)) for label, counts in message.labels.items()},
        score_counts=tuple(message.score_counts),
        traceparent=message.traceparent[:64],
    )


def _gate(message: fleet_pb2.GateState) -> GateReport:
    return GateReport(
        score=message.score[:64],
        threshold=message.threshold if message.HasField("threshold") else None,
        digest=message.digest[:64],
        in_force={risk[:64]: alpha for risk, alpha in message.in_force.items()},
        policy_id=message.policy_id[:64],
        refused_policy_id=message.refused_policy_id[:64],
        refusal=message.refusal[:500],
    )


def _steps(wire: Iterable[fleet_pb2.StepCounts]) -> tuple[StepCounts, ...]:
    return tuple(StepCounts(each.threshold, each.judged, each.wrong) for each in wire)


def _reason(value: str) -> Reason:
    try:
        return Reason(value)
    except ValueError:
        return Reason.UNCERTAIN
