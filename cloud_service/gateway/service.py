"""The gRPC face of the gateway: authentication, decoding, and status codes as the proto file says."""

from __future__ import annotations

import asyncio
import logging
from typing import NoReturn

import grpc
import grpc.aio

from cloud_service.gateway.credentials import Authenticator, Unauthenticated
from cloud_service.gateway.idempotency import AnotherPayload
from cloud_service.gateway.inference import InferenceDesk
from cloud_service.gateway.metrics import GatewayMetrics
from shared.codec import decode_request, encode_answer, encode_identity
from shared.errors import DeadlineExpired, EngineError, InputError, MessageError, Overloaded, TandemError, UnknownModel
from shared.pb import inference_pb2, inference_pb2_grpc

_log = logging.getLogger(__name__)

_CODES: tuple[tuple[type[TandemError], grpc.StatusCode], ...] = (
    (Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
    (UnknownModel, grpc.StatusCode.NOT_FOUND),
    (InputError, grpc.StatusCode.INVALID_ARGUMENT),
    (MessageError, grpc.StatusCode.INVALID_ARGUMENT),
    (AnotherPayload, grpc.StatusCode.ALREADY_EXISTS),
    (Overloaded, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (DeadlineExpired, grpc.StatusCode.DEADLINE_EXCEEDED),
    (EngineError, grpc.StatusCode.INTERNAL),
)


class InferenceService(inference_pb2_grpc.InferenceServicer):
    """`tandem.v1.Inference` over one desk."""

    def __init__(
        self, desk: InferenceDesk, authenticator: Authenticator, metrics: GatewayMetrics, default_deadline_s: float
    ) -> None:
        self._desk = desk
        self._authenticator = authenticator
        self._metrics = metrics
        self._default_deadline_s = default_deadline_s

    async def Infer(  # noqa: N802 - the generated port's name
        self, request: inference_pb2.InferRequest, context: grpc.aio.ServicerContext
    ) -> inference_pb2.InferResponse:
        """See `inference.proto`."""
        model = request.model if request.model in self._desk.models else "unknown"
        try:
            device_id = self._device_of(context)
            answer = await self._desk.answer(device_id, decode_request(request), self._timeout_s(context))
        except TandemError as error:
            code = _code_of(error)
            self._metrics.requests.labels(model, code.name).inc()
            await _abort(context, code, error)
        except asyncio.CancelledError:
            self._metrics.requests.labels(model, grpc.StatusCode.CANCELLED.name).inc()
            raise
        self._metrics.requests.labels(model, grpc.StatusCode.OK.name).inc()
        if answer.replayed:
            self._metrics.replayed.labels(model).inc()
        return encode_answer(answer)

    async def ListModels(  # noqa: N802 - the generated port's name
        self, request: inference_pb2.ListModelsRequest, context: grpc.aio.ServicerContext
    ) -> inference_pb2.ListModelsResponse:
        """See `inference.proto`."""
        try:
            self._device_of(context)
        except TandemError as error:
            await _abort(context, _code_of(error), error)
        return inference_pb2.ListModelsResponse(
            models=[
                inference_pb2.ServedModel(
                    identity=encode_identity(served.model.identity),
                    labels=served.model.labels,
                    provider=served.model.backend.provider,
                )
                for served in self._desk.models.values()
            ]
        )

    def _device_of(self, context: grpc.aio.ServicerContext) -> str:
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        return self._authenticator.device_of(metadata)

    def _timeout_s(self, context: grpc.aio.ServicerContext) -> float:
        remaining_s = context.time_remaining()
        return self._default_deadline_s if remaining_s is None else min(remaining_s, self._default_deadline_s)


def _code_of(error: TandemError) -> grpc.StatusCode:
    return next((code for kind, code in _CODES if isinstance(error, kind)), grpc.StatusCode.INTERNAL)


async def _abort(context: grpc.aio.ServicerContext, code: grpc.StatusCode, error: TandemError) -> NoReturn:
    if code is grpc.StatusCode.INTERNAL:
        _log.error("a request failed: %s", error)
    trailing = (("retry-after-ms", str(round(error.retry_after_s * 1e3))),) if isinstance(error, Overloaded) else ()
    await context.abort(code, str(error), trailing)
    raise AssertionError("abort always raises")
