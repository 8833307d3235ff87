"""The one adapter for gRPC: asks the gateway, and says its status codes in our own errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType

import anyio.lowlevel
import grpc
import grpc.aio

from edge_agent.config import CloudSettings
from shared.codec import decode_answer, decode_identity, encode_request, encode_true_labels
from shared.errors import (
    CloudOverloaded,
    CloudRefused,
    CloudTimedOut,
    CloudUnavailable,
    ConfigurationError,
    EscalationError,
    MessageError,
)
from shared.pb import inference_pb2, inference_pb2_grpc
from shared.secret_files import read_secret
from shared.tracing import TRACING, UNTRACED, Kind
from shared.types import EscalationAnswer, EscalationRequest, ModelIdentity, Priority, TrueLabel

_RETRY_AFTER = "retry-after-ms"
_RETRY_AFTER_UNSAID_S = 1.0
_REFUSALS = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


@dataclass(frozen=True)
class ServedModel:
    """A model that the gateway says it serves, and what runs it."""

    identity: ModelIdentity
    provider: str


class GrpcCloudClient:
    """The gateway over one channel, as `CloudClient`. Make and use it on a running event loop."""

    def __init__(self, settings: CloudSettings) -> None:
        """Nothing is connected yet; the first call does that.

        Raises:
            ConfigurationError: the token or the CA file cannot be read.
        """
        self._metadata = _credential(settings)
        self._channel = _open_channel(settings)
        stub = inference_pb2_grpc.InferenceStub(self._channel)  # type: ignore[no-untyped-call]
        self._infer = stub.Infer
        self._list_models = stub.ListModels
        self._report_labels = stub.ReportLabels

    async def __aenter__(self) -> GrpcCloudClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def infer(self, request: EscalationRequest, timeout_s: float) -> EscalationAnswer:
        """See `CloudClient`. A cancelled caller cancels the call."""
        try:
            with _call_span(request) if TRACING.is_on else UNTRACED:
                metadata = self._metadata + TRACING.metadata()
                response = await self._infer(encode_request(request), timeout=timeout_s, metadata=metadata)
            return decode_answer(response)
        except asyncio.CancelledError:
            # gRPC has cancelled the call, but raises an error of its own making, which anyio's cancel
            # scopes do not know for theirs: let the scope raise its own.
            await anyio.lowlevel.checkpoint_if_cancelled()
            raise
        except grpc.aio.AioRpcError as error:
            raise _translated(error) from error
        except MessageError as error:
            raise CloudUnavailable(f"the cloud's answer cannot be read: {error}") from error

    async def list_models(self, timeout_s: float) -> tuple[ServedModel, ...]:
        """What the gateway serves.

        Raises:
            CloudUnavailable, CloudTimedOut, CloudOverloaded, CloudRefused: it did not answer.
        """
        try:
            response = await self._list_models(
                inference_pb2.ListModelsRequest(), timeout=timeout_s, metadata=self._metadata, wait_for_ready=True
            )
            return tuple(ServedModel(decode_identity(model.identity), model.provider) for model in response.models)
        except grpc.aio.AioRpcError as error:
            raise _translated(error) from error
        except MessageError as error:
            raise CloudUnavailable(f"the cloud's answer cannot be read: {error}") from error

    async def report_labels(self, labels: Sequence[TrueLabel], timeout_s: float) -> None:
        """See `LabelClient`."""
        try:
            await self._report_labels(encode_true_labels(labels), timeout=timeout_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise _translated(error) from error


def _call_span(request: EscalationRequest) -> AbstractContextManager[None]:
    attributes = {
        "rpc.system": "grpc",
        "rpc.service": "tandem.v1.Inference",
        "rpc.method": "Infer",
        "tandem.request_id": request.request_id,
        "tandem.priority": request.priority.name.lower(),
        "tandem.reason": request.reason.value,
    }
    name = "audit" if request.priority is Priority.AUDIT else "escalate"
    return TRACING.span(name, kind=Kind.CLIENT, attributes=attributes)


def _open_channel(settings: CloudSettings) -> grpc.aio.Channel:
    options = list(_channel_options(settings).items())
    if settings.ca_file is None:
        return grpc.aio.insecure_channel(settings.address, options=options)
    try:
        roots = settings.ca_file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cloud.ca_file: {settings.ca_file} cannot be read: {error}") from error
    return grpc.aio.secure_channel(settings.address, grpc.ssl_channel_credentials(roots), options=options)


def _channel_options(settings: CloudSettings) -> dict[str, int | str]:
    """Suited to mobile links: no pings without calls (they wake the radio), dead links noticed by unacknowledged
    data (TCP_USER_TIMEOUT follows the keepalive timeout, gRFC A18), and quick, jittered reconnects.
    """
    return {
        "grpc.service_config": _service_config(),
        "grpc.keepalive_time_ms": settings.keepalive_ms,
        "grpc.keepalive_timeout_ms": 10_000,
        "grpc.keepalive_permit_without_calls": 0,
        "grpc.initial_reconnect_backoff_ms": 200,
        "grpc.min_reconnect_backoff_ms": 2_000,
        "grpc.max_reconnect_backoff_ms": 5_000,
        "grpc.enable_http_proxy": 0,
    }


def _service_config() -> str:
    """Retries on UNAVAILABLE alone, within the deadline, on a budget (gRFC A6); gRPC adds the jitter."""
    policy = {
        "maxAttempts": 3,
        "initialBackoff": "0.02s",
        "maxBackoff": "0.1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    method = {"name": [{"service": "tandem.v1.Inference"}], "retryPolicy": policy}
    return json.dumps({"methodConfig": [method], "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1}})


def _credential(settings: CloudSettings) -> tuple[tuple[str, str], ...]:
    if settings.token_file is None:
        return ()
    return (("authorization", f"Bearer {read_secret('cloud.token_file', settings.token_file)}"),)


def _translated(error: grpc.aio.AioRpcError) -> EscalationError:
    code, problem = error.code(), f"{error.code().name}: {error.details()}"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return CloudTimedOut(problem)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return CloudOverloaded(problem, _retry_after_s(error.trailing_metadata()))
    return CloudRefused(problem) if code in _REFUSALS else CloudUnavailable(problem)


def _retry_after_s(metadata: Iterable[tuple[str, str | bytes]] | None) -> float:
    for key, value in metadata or ():
        if key == _RETRY_AFTER:
            try:
                return max(0.0, float(value) / 1e3)
            except ValueError:
                break
    return _RETRY_AFTER_UNSAID_S
