from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_INTERACTIVE: _ClassVar[Priority]
    PRIORITY_AUDIT: _ClassVar[Priority]
    PRIORITY_REPLAY: _ClassVar[Priority]
PRIORITY_UNSPECIFIED: Priority
PRIORITY_INTERACTIVE: Priority
PRIORITY_AUDIT: Priority
PRIORITY_REPLAY: Priority

class InferRequest(_message.Message):
    __slots__ = ("request_id", "model", "text", "top_k", "priority", "edge_answer", "reason")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    EDGE_ANSWER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    text: str
    top_k: int
    priority: Priority
    edge_answer: EdgeAnswer
    reason: str
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., text: _Optional[str] = ..., top_k: _Optional[int] = ..., priority: _Optional[_Union[Priority, str]] = ..., edge_answer: _Optional[_Union[EdgeAnswer, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class EdgeAnswer(_message.Message):
    __slots__ = ("label", "score", "model_version", "gate_score", "gate_digest", "kept")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    GATE_SCORE_FIELD_NUMBER: _ClassVar[int]
    GATE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    label: str
    score: float
    model_version: str
    gate_score: float
    gate_digest: str
    kept: bool
    def __init__(self, label: _Optional[str] = ..., score: _Optional[float] = ..., model_version: _Optional[str] = ..., gate_score: _Optional[float] = ..., gate_digest: _Optional[str] = ..., kept: _Optional[bool] = ...) -> None: ...

class LabelScore(_message.Message):
    __slots__ = ("label", "score")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    label: str
    score: float
    def __init__(self, label: _Optional[str] = ..., score: _Optional[float] = ...) -> None: ...

class ModelIdentity(_message.Message):
    __slots__ = ("name", "version", "digest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    digest: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., digest: _Optional[str] = ...) -> None: ...

class InferResponse(_message.Message):
    __slots__ = ("request_id", "model", "top", "timings", "replayed")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: ModelIdentity
    top: _containers.RepeatedCompositeFieldContainer[LabelScore]
    timings: Timings
    replayed: bool
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[_Union[ModelIdentity, _Mapping]] = ..., top: _Optional[_Iterable[_Union[LabelScore, _Mapping]]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., replayed: _Optional[bool] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("queue_ms", "compute_ms", "batch_ms", "batch_size")
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_MS_FIELD_NUMBER: _ClassVar[int]
    BATCH_MS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    queue_ms: float
    compute_ms: float
    batch_ms: float
    batch_size: int
    def __init__(self, queue_ms: _Optional[float] = ..., compute_ms: _Optional[float] = ..., batch_ms: _Optional[float] = ..., batch_size: _Optional[int] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ServedModel]
    def __init__(self, models: _Optional[_Iterable[_Union[ServedModel, _Mapping]]] = ...) -> None: ...

class ServedModel(_message.Message):
    __slots__ = ("identity", "labels", "provider")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    identity: ModelIdentity
    labels: _containers.RepeatedScalarFieldContainer[str]
    provider: str
    def __init__(self, identity: _Optional[_Union[ModelIdentity, _Mapping]] = ..., labels: _Optional[_Iterable[str]] = ..., provider: _Optional[str] = ...) -> None: ...

class ReportLabelsRequest(_message.Message):
    __slots__ = ("labels",)
    LABELS_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.RepeatedCompositeFieldContainer[TrueLabel]
    def __init__(self, labels: _Optional[_Iterable[_Union[TrueLabel, _Mapping]]] = ...) -> None: ...

class TrueLabel(_message.Message):
    __slots__ = ("request_id", "model", "edge_answer", "label", "answered_at_unix_ms")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    EDGE_ANSWER_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_AT_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    edge_answer: EdgeAnswer
    label: str
    answered_at_unix_ms: int
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., edge_answer: _Optional[_Union[EdgeAnswer, _Mapping]] = ..., label: _Optional[str] = ..., answered_at_unix_ms: _Optional[int] = ...) -> None: ...

class ReportLabelsResponse(_message.Message):
    __slots__ = ("taken",)
    TAKEN_FIELD_NUMBER: _ClassVar[int]
    taken: int
    def __init__(self, taken: _Optional[int] = ...) -> None: ...
