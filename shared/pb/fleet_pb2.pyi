from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DevicePresence(_message.Message):
    __slots__ = ("device_id", "boot_id", "online", "sent_at_unix_ms", "agent_version", "ring")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    ONLINE_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    RING_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    boot_id: str
    online: bool
    sent_at_unix_ms: int
    agent_version: str
    ring: str
    def __init__(self, device_id: _Optional[str] = ..., boot_id: _Optional[str] = ..., online: _Optional[bool] = ..., sent_at_unix_ms: _Optional[int] = ..., agent_version: _Optional[str] = ..., ring: _Optional[str] = ...) -> None: ...

class DeviceModelTelemetry(_message.Message):
    __slots__ = ("device_id", "boot_id", "sequence", "sent_at_unix_ms", "uptime_ms", "model", "model_version", "model_digest", "variant", "counters", "latency_by_outcome", "reasons", "gate", "cloud_link", "ring", "audits", "audit_steps", "label_steps", "labels", "score_counts", "traceparent")
    class LatencyByOutcomeEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Histogram
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Histogram, _Mapping]] = ...) -> None: ...
    class ReasonsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: LabelCounts
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[LabelCounts, _Mapping]] = ...) -> None: ...
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    UPTIME_MS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_BY_OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    GATE_FIELD_NUMBER: _ClassVar[int]
    CLOUD_LINK_FIELD_NUMBER: _ClassVar[int]
    RING_FIELD_NUMBER: _ClassVar[int]
    AUDITS_FIELD_NUMBER: _ClassVar[int]
    AUDIT_STEPS_FIELD_NUMBER: _ClassVar[int]
    LABEL_STEPS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SCORE_COUNTS_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    boot_id: str
    sequence: int
    sent_at_unix_ms: int
    uptime_ms: int
    model: str
    model_version: str
    model_digest: str
    variant: str
    counters: Counters
    latency_by_outcome: _containers.MessageMap[str, Histogram]
    reasons: _containers.ScalarMap[str, int]
    gate: GateState
    cloud_link: str
    ring: str
    audits: AuditCounts
    audit_steps: _containers.RepeatedCompositeFieldContainer[StepCounts]
    label_steps: _containers.RepeatedCompositeFieldContainer[StepCounts]
    labels: _containers.MessageMap[str, LabelCounts]
    score_counts: _containers.RepeatedScalarFieldContainer[int]
    traceparent: str
    def __init__(self, device_id: _Optional[str] = ..., boot_id: _Optional[str] = ..., sequence: _Optional[int] = ..., sent_at_unix_ms: _Optional[int] = ..., uptime_ms: _Optional[int] = ..., model: _Optional[str] = ..., model_version: _Optional[str] = ..., model_digest: _Optional[str] = ..., variant: _Optional[str] = ..., counters: _Optional[_Union[Counters, _Mapping]] = ..., latency_by_outcome: _Optional[_Mapping[str, Histogram]] = ..., reasons: _Optional[_Mapping[str, int]] = ..., gate: _Optional[_Union[GateState, _Mapping]] = ..., cloud_link: _Optional[str] = ..., ring: _Optional[str] = ..., audits: _Optional[_Union[AuditCounts, _Mapping]] = ..., audit_steps: _Optional[_Iterable[_Union[StepCounts, _Mapping]]] = ..., label_steps: _Optional[_Iterable[_Union[StepCounts, _Mapping]]] = ..., labels: _Optional[_Mapping[str, LabelCounts]] = ..., score_counts: _Optional[_Iterable[int]] = ..., traceparent: _Optional[str] = ...) -> None: ...

class Counters(_message.Message):
    __slots__ = ("received", "rejected", "accepted", "edge", "cloud", "degraded", "failed", "in_flight", "wanted", "attempted", "served", "call_failed", "timed_out", "calls_in_flight")
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    EDGE_FIELD_NUMBER: _ClassVar[int]
    CLOUD_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTED_FIELD_NUMBER: _ClassVar[int]
    SERVED_FIELD_NUMBER: _ClassVar[int]
    CALL_FAILED_FIELD_NUMBER: _ClassVar[int]
    TIMED_OUT_FIELD_NUMBER: _ClassVar[int]
    CALLS_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    received: int
    rejected: int
    accepted: int
    edge: int
    cloud: int
    degraded: int
    failed: int
    in_flight: int
    wanted: int
    attempted: int
    served: int
    call_failed: int
    timed_out: int
    calls_in_flight: int
    def __init__(self, received: _Optional[int] = ..., rejected: _Optional[int] = ..., accepted: _Optional[int] = ..., edge: _Optional[int] = ..., cloud: _Optional[int] = ..., degraded: _Optional[int] = ..., failed: _Optional[int] = ..., in_flight: _Optional[int] = ..., wanted: _Optional[int] = ..., attempted: _Optional[int] = ..., served: _Optional[int] = ..., call_failed: _Optional[int] = ..., timed_out: _Optional[int] = ..., calls_in_flight: _Optional[int] = ...) -> None: ...

class Histogram(_message.Message):
    __slots__ = ("counts", "sum_ms")
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    SUM_MS_FIELD_NUMBER: _ClassVar[int]
    counts: _containers.RepeatedScalarFieldContainer[int]
    sum_ms: float
    def __init__(self, counts: _Optional[_Iterable[int]] = ..., sum_ms: _Optional[float] = ...) -> None: ...

class GateState(_message.Message):
    __slots__ = ("score", "threshold", "digest", "in_force", "policy_id", "refused_policy_id", "refusal")
    class InForceEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    SCORE_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    IN_FORCE_FIELD_NUMBER: _ClassVar[int]
    POLICY_ID_FIELD_NUMBER: _ClassVar[int]
    REFUSED_POLICY_ID_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    score: str
    threshold: float
    digest: str
    in_force: _containers.ScalarMap[str, float]
    policy_id: str
    refused_policy_id: str
    refusal: str
    def __init__(self, score: _Optional[str] = ..., threshold: _Optional[float] = ..., digest: _Optional[str] = ..., in_force: _Optional[_Mapping[str, float]] = ..., policy_id: _Optional[str] = ..., refused_policy_id: _Optional[str] = ..., refusal: _Optional[str] = ...) -> None: ...

class AuditCounts(_message.Message):
    __slots__ = ("chosen", "agreed", "disagreed", "failed", "in_flight")
    CHOSEN_FIELD_NUMBER: _ClassVar[int]
    AGREED_FIELD_NUMBER: _ClassVar[int]
    DISAGREED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    chosen: int
    agreed: int
    disagreed: int
    failed: int
    in_flight: int
    def __init__(self, chosen: _Optional[int] = ..., agreed: _Optional[int] = ..., disagreed: _Optional[int] = ..., failed: _Optional[int] = ..., in_flight: _Optional[int] = ...) -> None: ...

class StepCounts(_message.Message):
    __slots__ = ("threshold", "judged", "wrong")
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    JUDGED_FIELD_NUMBER: _ClassVar[int]
    WRONG_FIELD_NUMBER: _ClassVar[int]
    threshold: float
    judged: int
    wrong: int
    def __init__(self, threshold: _Optional[float] = ..., judged: _Optional[int] = ..., wrong: _Optional[int] = ...) -> None: ...

class LabelCounts(_message.Message):
    __slots__ = ("accepted", "wanted", "audited", "disagreed", "labelled", "wrong")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    AUDITED_FIELD_NUMBER: _ClassVar[int]
    DISAGREED_FIELD_NUMBER: _ClassVar[int]
    LABELLED_FIELD_NUMBER: _ClassVar[int]
    WRONG_FIELD_NUMBER: _ClassVar[int]
    accepted: int
    wanted: int
    audited: int
    disagreed: int
    labelled: int
    wrong: int
    def __init__(self, accepted: _Optional[int] = ..., wanted: _Optional[int] = ..., audited: _Optional[int] = ..., disagreed: _Optional[int] = ..., labelled: _Optional[int] = ..., wrong: _Optional[int] = ...) -> None: ...

class GatePolicy(_message.Message):
    __slots__ = ("policy_id", "sequence", "model", "gate_digest", "in_force", "escalate_all", "least_threshold", "audit_share", "offload_cap", "budget_in_force", "reason", "issued_by", "issued_at_unix_ms", "traceparent")
    class InForceEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class BudgetInForceEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    POLICY_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    GATE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    IN_FORCE_FIELD_NUMBER: _ClassVar[int]
    ESCALATE_ALL_FIELD_NUMBER: _ClassVar[int]
    LEAST_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    AUDIT_SHARE_FIELD_NUMBER: _ClassVar[int]
    OFFLOAD_CAP_FIELD_NUMBER: _ClassVar[int]
    BUDGET_IN_FORCE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ISSUED_BY_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    policy_id: str
    sequence: int
    model: str
    gate_digest: str
    in_force: _containers.ScalarMap[str, float]
    escalate_all: bool
    least_threshold: float
    audit_share: float
    offload_cap: float
    budget_in_force: _containers.ScalarMap[str, float]
    reason: str
    issued_by: str
    issued_at_unix_ms: int
    traceparent: str
    def __init__(self, policy_id: _Optional[str] = ..., sequence: _Optional[int] = ..., model: _Optional[str] = ..., gate_digest: _Optional[str] = ..., in_force: _Optional[_Mapping[str, float]] = ..., escalate_all: _Optional[bool] = ..., least_threshold: _Optional[float] = ..., audit_share: _Optional[float] = ..., offload_cap: _Optional[float] = ..., budget_in_force: _Optional[_Mapping[str, float]] = ..., reason: _Optional[str] = ..., issued_by: _Optional[str] = ..., issued_at_unix_ms: _Optional[int] = ..., traceparent: _Optional[str] = ...) -> None: ...

class UpdateHint(_message.Message):
    __slots__ = ("model", "rollout", "sequence", "sent_at_unix_ms")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    model: str
    rollout: str
    sequence: int
    sent_at_unix_ms: int
    def __init__(self, model: _Optional[str] = ..., rollout: _Optional[str] = ..., sequence: _Optional[int] = ..., sent_at_unix_ms: _Optional[int] = ...) -> None: ...

class UpdateReport(_message.Message):
    __slots__ = ("device_id", "boot_id", "sequence", "sent_at_unix_ms", "model", "ring", "hardware", "agent_version", "phase", "slot", "active", "candidate", "rollout", "assignment_sequence", "bytes_done", "bytes_to_fetch", "bytes_fetched", "error", "error_kind", "attempts", "trial", "crashes", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RING_FIELD_NUMBER: _ClassVar[int]
    HARDWARE_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    BYTES_DONE_FIELD_NUMBER: _ClassVar[int]
    BYTES_TO_FETCH_FIELD_NUMBER: _ClassVar[int]
    BYTES_FETCHED_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ERROR_KIND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    TRIAL_FIELD_NUMBER: _ClassVar[int]
    CRASHES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    boot_id: str
    sequence: int
    sent_at_unix_ms: int
    model: str
    ring: str
    hardware: str
    agent_version: str
    phase: str
    slot: str
    active: InstalledRelease
    candidate: InstalledRelease
    rollout: str
    assignment_sequence: int
    bytes_done: int
    bytes_to_fetch: int
    bytes_fetched: int
    error: str
    error_kind: str
    attempts: int
    trial: TrialFigures
    crashes: int
    labels: _containers.ScalarMap[str, str]
    def __init__(self, device_id: _Optional[str] = ..., boot_id: _Optional[str] = ..., sequence: _Optional[int] = ..., sent_at_unix_ms: _Optional[int] = ..., model: _Optional[str] = ..., ring: _Optional[str] = ..., hardware: _Optional[str] = ..., agent_version: _Optional[str] = ..., phase: _Optional[str] = ..., slot: _Optional[str] = ..., active: _Optional[_Union[InstalledRelease, _Mapping]] = ..., candidate: _Optional[_Union[InstalledRelease, _Mapping]] = ..., rollout: _Optional[str] = ..., assignment_sequence: _Optional[int] = ..., bytes_done: _Optional[int] = ..., bytes_to_fetch: _Optional[int] = ..., bytes_fetched: _Optional[int] = ..., error: _Optional[str] = ..., error_kind: _Optional[str] = ..., attempts: _Optional[int] = ..., trial: _Optional[_Union[TrialFigures, _Mapping]] = ..., crashes: _Optional[int] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class InstalledRelease(_message.Message):
    __slots__ = ("version", "model_digest", "gate_digest", "release", "variant")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    GATE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    version: str
    model_digest: str
    gate_digest: str
    release: int
    variant: str
    def __init__(self, version: _Optional[str] = ..., model_digest: _Optional[str] = ..., gate_digest: _Optional[str] = ..., release: _Optional[int] = ..., variant: _Optional[str] = ...) -> None: ...

class TrialFigures(_message.Message):
    __slots__ = ("requests", "failed", "latency_ms", "old_latency_ms", "offload", "old_offload", "compared", "agreed", "old_failed")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    OLD_LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    OFFLOAD_FIELD_NUMBER: _ClassVar[int]
    OLD_OFFLOAD_FIELD_NUMBER: _ClassVar[int]
    COMPARED_FIELD_NUMBER: _ClassVar[int]
    AGREED_FIELD_NUMBER: _ClassVar[int]
    OLD_FAILED_FIELD_NUMBER: _ClassVar[int]
    requests: int
    failed: int
    latency_ms: float
    old_latency_ms: float
    offload: float
    old_offload: float
    compared: int
    agreed: int
    old_failed: float
    def __init__(self, requests: _Optional[int] = ..., failed: _Optional[int] = ..., latency_ms: _Optional[float] = ..., old_latency_ms: _Optional[float] = ..., offload: _Optional[float] = ..., old_offload: _Optional[float] = ..., compared: _Optional[int] = ..., agreed: _Optional[int] = ..., old_failed: _Optional[float] = ...) -> None: ...

class BlockRequest(_message.Message):
    __slots__ = ("request_id", "publisher", "ranges", "block_bytes")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PUBLISHER_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    BLOCK_BYTES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    publisher: str
    ranges: _containers.RepeatedCompositeFieldContainer[BlockRange]
    block_bytes: int
    def __init__(self, request_id: _Optional[str] = ..., publisher: _Optional[str] = ..., ranges: _Optional[_Iterable[_Union[BlockRange, _Mapping]]] = ..., block_bytes: _Optional[int] = ...) -> None: ...

class BlockRange(_message.Message):
    __slots__ = ("path", "offset", "length")
    PATH_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    path: str
    offset: int
    length: int
    def __init__(self, path: _Optional[str] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ...) -> None: ...

class Block(_message.Message):
    __slots__ = ("request_id", "publisher", "path", "offset", "file_length", "data", "is_missing", "retry_after_ms")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PUBLISHER_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    FILE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    IS_MISSING_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    publisher: str
    path: str
    offset: int
    file_length: int
    data: bytes
    is_missing: bool
    retry_after_ms: int
    def __init__(self, request_id: _Optional[str] = ..., publisher: _Optional[str] = ..., path: _Optional[str] = ..., offset: _Optional[int] = ..., file_length: _Optional[int] = ..., data: _Optional[bytes] = ..., is_missing: _Optional[bool] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class PublisherPresence(_message.Message):
    __slots__ = ("publisher", "online", "sent_at_unix_ms", "block_bytes", "ranges_waiting")
    PUBLISHER_FIELD_NUMBER: _ClassVar[int]
    ONLINE_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    BLOCK_BYTES_FIELD_NUMBER: _ClassVar[int]
    RANGES_WAITING_FIELD_NUMBER: _ClassVar[int]
    publisher: str
    online: bool
    sent_at_unix_ms: int
    block_bytes: int
    ranges_waiting: int
    def __init__(self, publisher: _Optional[str] = ..., online: _Optional[bool] = ..., sent_at_unix_ms: _Optional[int] = ..., block_bytes: _Optional[int] = ..., ranges_waiting: _Optional[int] = ...) -> None: ...
