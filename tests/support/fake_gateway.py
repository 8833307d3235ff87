"""A gateway on a real grpc.aio server that implements the real service, with behaviour to script."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import TypeAlias

import anyio
import grpc
import grpc.aio

from shared.codec import decode_request, decode_true_labels, encode_answer, encode_identity
from shared.pb import inference_pb2, inference_pb2_grpc
from shared.types import CloudTimings, EscalationAnswer, EscalationRequest, LabelScore, ModelIdentity, TrueLabel

Context: TypeAlias = grpc.aio.ServicerContext
Behaviour = Callable[[EscalationRequest, Context], Awaitable[EscalationAnswer]]

CLOUD_DIGEST = "f" * 64


def answer_with(label: str, score: float = 0.97) -> Behaviour:
    """Answer every text with `label`."""

    async def behave(request: EscalationRequest, context: Context) -> EscalationAnswer:
        identity = ModelIdentity(request.model, "9.0.0", CLOUD_DIGEST)
        return EscalationAnswer(
            request.request_id, identity, (LabelScore(label, score),), CloudTimings(0.5, 1.5, 3.0, 2)
        )

    return behave


def abort_with(code: grpc.StatusCode, details: str = "on purpose", **metadata: str) -> Behaviour:
    """Refuse every text with `code`; `retry_after_ms="50"` becomes trailing metadata "retry-after-ms"."""

    async def behave(request: EscalationRequest, context: Context) -> EscalationAnswer:
        trailing = tuple((key.replace("_", "-"), value) for key, value in metadata.items())
        await context.abort(code, details, trailing)
        raise AssertionError("abort does not return")

    return behave


def sleep_for(seconds: float, then: Behaviour) -> Behaviour:
    """Behave as `then`, `seconds` later."""

    async def behave(request: EscalationRequest, context: Context) -> EscalationAnswer:
        await anyio.sleep(seconds)
        return await then(request, context)

    return behave


def one_after_another(*behaviours: Behaviour) -> Behaviour:
    """Behave as each in turn, then as the last."""
    left = list(behaviours)

    async def behave(request: EscalationRequest, context: Context) -> EscalationAnswer:
        now = left.pop(0) if len(left) > 1 else left[0]
        return await now(request, context)

    return behave


class FakeGateway(inference_pb2_grpc.InferenceServicer):
    """`async with FakeGateway() as gateway:` serves at `gateway.address`; `stop` and `start` are kill and restart.

    `asked` is set by the first request, `hung_up` by the first call that its client cancels. `true_labels` holds the
    labels that came back, each call's in turn; while `refuses_labels` is set, they are refused with that code.
    """

    def __init__(
        self, behaviour: Behaviour | None = None, *, models: Sequence[str] = ("tiny",), token: str | None = None
    ) -> None:
        self.behaviour = behaviour or answer_with("loan")
        self.requests: list[EscalationRequest] = []
        self.deadlines_s: list[float | None] = []
        self.true_labels: list[TrueLabel] = []
        self.refuses_labels: grpc.StatusCode | None = None
        self.asked = anyio.Event()
        self.hung_up = anyio.Event()
        self._models = models
        self._token = token
        self._port = 0
        self._server: grpc.aio.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    async def __aenter__(self) -> FakeGateway:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, on the same port as before where there was one."""
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        inference_pb2_grpc.add_InferenceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        self._port = self._server.add_insecure_port(f"127.0.0.1:{self._port}")
        await self._server.start()

    async def stop(self) -> None:
        """Cut every connection."""
        if self._server is not None:
            await self._server.stop(grace=None)
            self._server = None

    async def Infer(self, request: inference_pb2.InferRequest, context: Context) -> inference_pb2.InferResponse:  # noqa: N802
        await self._require_token(context)
        self.requests.append(decode_request(request))
        self.deadlines_s.append(context.time_remaining())
        self.asked.set()
        try:
            return encode_answer(await self.behaviour(self.requests[-1], context))
        except anyio.get_cancelled_exc_class():
            self.hung_up.set()
            raise

    async def ListModels(  # noqa: N802
        self, request: inference_pb2.ListModelsRequest, context: Context
    ) -> inference_pb2.ListModelsResponse:
        await self._require_token(context)
        served = [
            inference_pb2.ServedModel(
                identity=encode_identity(ModelIdentity(name, "9.0.0", CLOUD_DIGEST)), provider="CPUExecutionProvider"
            )
            for name in self._models
        ]
        return inference_pb2.ListModelsResponse(models=served)

    async def ReportLabels(  # noqa: N802
        self, request: inference_pb2.ReportLabelsRequest, context: Context
    ) -> inference_pb2.ReportLabelsResponse:
        await self._require_token(context)
        if self.refuses_labels is not None:
            await context.abort(self.refuses_labels, "on purpose")
        labels = decode_true_labels(request)
        self.true_labels += labels
        return inference_pb2.ReportLabelsResponse(taken=len(labels))

    async def _require_token(self, context: Context) -> None:
        metadata = dict(context.invocation_metadata() or ())
        if self._token is not None and metadata.get("authorization") != f"Bearer {self._token}":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no valid credential")
