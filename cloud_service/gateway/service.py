"""The gRPC face of the gateway: messages in and out, and our errors as status codes (see inference.proto)."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import NoReturn, TypeAlias, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from cloud_service.gateway.authentication import Authenticator
from cloud_service.gateway.inference import InferenceDesk
from cloud_service.gateway.metrics import GatewayMetrics
from cloud_service.gateway.recording import Recorder
from shared.codec import decode_request, decode_true_labels, encode_answer, encode_identity
from shared.errors import (
    DeadlineExpired,
    InputError,
    MessageError,
    NotReady,
    Overloaded,
    RequestIdReused,
    StorageError,
    TandemError,
    Unauthenticated,
    UnknownModel,
)
from shared.pb import inference_pb2, inference_pb2_grpc
from shared.tracing import HEADER, TRACING, UNTRACED, Kind, Stage
from shared.types import CloudTimings

_log = logging.getLogger(__name__)
_Request = TypeVar("_Request", bound=Message)
SERVICE: str = inference_pb2.DESCRIPTOR.services_by_name["Inference"].full_name
_Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"
_LONGEST_DEADLINE_S = 86_400.0
_LONGEST_DETAILS = 500
"""Characters; they travel in a header, and clients refuse large headers."""
_UNKNOWN_MODEL = "unknown"
_STATUS: tuple[tuple[type[TandemError], grpc.StatusCode], ...] = (
    (UnknownModel, grpc.StatusCode.NOT_FOUND),
    (RequestIdReused, grpc.StatusCode.ALREADY_EXISTS),
    (InputError, grpc.StatusCode.INVALID_ARGUMENT),
    (MessageError, grpc.StatusCode.INVALID_ARGUMENT),
    (Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
    (Overloaded, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (DeadlineExpired, grpc.StatusCode.DEADLINE_EXCEEDED),
    (NotReady, grpc.StatusCode.UNAVAILABLE),
    (StorageError, grpc.StatusCode.UNAVAILABLE),
)
"""First match counts; any other error of ours is INTERNAL."""


class InferenceService(inference_pb2_grpc.InferenceServicer):
    """`tandem.v1.Inference` over one desk."""

    def __init__(
        self,
        desk: InferenceDesk,
        authenticator: Authenticator,
        metrics: GatewayMetrics,
        recorder: Recorder,
        default_deadline_s: float,
    ) -> None:
        """`default_deadline_s` holds for calls that bring no deadline."""
        self._recorder = recorder
        self._desk = desk
        self._authenticator = authenticator
        self._metrics = metrics
        self._default_deadline_s = default_deadline_s

    def register(self, server: grpc.aio.Server) -> None:
        """Serve on `server`. Unlike the generated registration, bytes that are no message end as INVALID_ARGUMENT."""
        methods = {
            "Infer": self._handler(self.Infer, inference_pb2.InferRequest),
            "ListModels": self._handler(self.ListModels, inference_pb2.ListModelsRequest),
            "ReportLabels": self._handler(self.ReportLabels, inference_pb2.ReportLabelsRequest),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))

    async def Infer(  # noqa: N802 - the generated port's name
        self, request: inference_pb2.InferRequest, context: _Context
    ) -> inference_pb2.InferResponse:
        """See inference.proto."""
        model = request.model if request.model in self._desk.models else _UNKNOWN_MODEL
        try:
            device_id = self._device_of(context)
            asked = decode_request(request)
            answer = await self._desk.answer(device_id, asked, self._timeout_s(context))
        except TandemError as error:
            await self._refuse(context, model, error)
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED if self._timeout_s(context) else grpc.StatusCode.DEADLINE_EXCEEDED
            self._metrics.requests.labels(model, code.name).inc()
            raise
        self._metrics.requests.labels(model, grpc.StatusCode.OK.name).inc()
        if answer.replayed:
            self._metrics.replayed.labels(model).inc()
        elif TRACING.is_on:
            _tell_of(answer.timings)
        self._recorder.compare(device_id, asked, answer)
        return encode_answer(answer)

    async def ListModels(  # noqa: N802 - the generated port's name
        self, request: inference_pb2.ListModelsRequest, context: _Context
    ) -> inference_pb2.ListModelsResponse:
        """See inference.proto."""
        try:
            self._device_of(context)
        except TandemError as error:
            await self._refuse(context, _UNKNOWN_MODEL, error)
        models = [served.model for served in self._desk.models.values()]
        return inference_pb2.ListModelsResponse(
            models=[
                inference_pb2.ServedModel(
                    identity=encode_identity(model.identity), labels=model.labels, provider=model.backend.provider
                )
                for model in models
            ]
        )

    async def ReportLabels(  # noqa: N802 - the generated port's name
        self, request: inference_pb2.ReportLabelsRequest, context: _Context
    ) -> inference_pb2.ReportLabelsResponse:
        """See inference.proto."""
        try:
            device_id = self._device_of(context)
            taken = await self._recorder.take_labels(device_id, decode_true_labels(request))
        except TandemError as error:
            await self._refuse(context, _UNKNOWN_MODEL, error)
        return inference_pb2.ReportLabelsResponse(taken=taken)

    def _handler(
        self, method: Callable[[_Request, _Context], Awaitable[Message]], kind: type[_Request]
    ) -> grpc.RpcMethodHandler:
        async def call(data: bytes, context: _Context) -> Message:
            try:
                request = kind.FromString(data)
            except DecodeError:
                error = MessageError(f"{len(data)} bytes are not a {kind.DESCRIPTOR.full_name}")
                await self._refuse(context, _UNKNOWN_MODEL, error)
            with _call_span(method.__name__, context) if TRACING.is_on else UNTRACED:
                return await method(request, context)

        return grpc.unary_unary_rpc_method_handler(call, response_serializer=_serialized)

    async def _refuse(self, context: _Context, model: str, error: TandemError) -> NoReturn:
        code = status_of(error)
        self._metrics.requests.labels(model, code.name).inc()
        if code is grpc.StatusCode.INTERNAL:
            _log.error("a request failed: %s", error)
        trailing: tuple[tuple[str, str], ...] = ()
        if isinstance(error, Overloaded):
            trailing = (("retry-after-ms", str(math.ceil(error.retry_after_s * 1e3))),)
        await context.abort(code, str(error)[:_LONGEST_DETAILS], trailing)
        raise AssertionError("abort always raises")

    def _device_of(self, context: _Context) -> str:
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        return self._authenticator.device_of(metadata)

    def _timeout_s(self, context: _Context) -> float:
        """What the caller's deadline leaves, in seconds."""
        remaining_s: float | None = context.time_remaining()
        return self._default_deadline_s if remaining_s is None else min(remaining_s, _LONGEST_DEADLINE_S)


def status_of(error: TandemError) -> grpc.StatusCode:
    """The status code that says `error` to a client."""
    return next((code for kind, code in _STATUS if isinstance(error, kind)), grpc.StatusCode.INTERNAL)


def _call_span(method: str, context: _Context) -> AbstractContextManager[None]:
    metadata = dict(context.invocation_metadata() or ())
    parent, attributes = metadata.get(HEADER), {"rpc.system": "grpc", "rpc.service": SERVICE, "rpc.method": method}
    parent = parent if isinstance(parent, str) else ""
    return TRACING.span(f"{SERVICE}/{method}", kind=Kind.SERVER, parent=parent, attributes=attributes)


def _tell_of(timings: CloudTimings) -> None:
    stages = Stage("queue", timings.queue_ms), Stage("compute", timings.batch_ms)
    TRACING.stages(stages, timings.queue_ms + timings.batch_ms)
    TRACING.note({"tandem.batch_size": timings.batch_size})


def _serialized(message: Message) -> bytes:
    data: bytes = message.SerializeToString()
    return data
