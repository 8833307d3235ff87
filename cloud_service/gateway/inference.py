"""Answers one escalated request: knows nothing of gRPC, only of devices, deadlines and models."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from cloud_service.gateway.idempotency import Claim, IdempotencyCache
from cloud_service.serving.batcher import BatchedLogits, Batcher
from cloud_service.serving.model import FullModel
from shared.clock import Clock
from shared.errors import UnknownModel
from shared.types import EscalationAnswer, EscalationRequest


@dataclass(frozen=True)
class ServedModel:
    """A model with the batcher before it."""

    model: FullModel
    batcher: Batcher


@dataclass
class _Computation:
    """A request being computed, or its result. The callers that wait for it keep it alive."""

    result: asyncio.Future[BatchedLogits]
    waiters: int = 0


class InferenceDesk:
    """Takes requests of authenticated devices to the batchers; the same request is computed once."""

    def __init__(
        self, models: Mapping[str, ServedModel], clock: Clock, *, idempotency_entries: int, idempotency_ttl_s: float
    ) -> None:
        self.models = models
        self._clock = clock
        self._computations: IdempotencyCache[_Computation] = IdempotencyCache(idempotency_entries, idempotency_ttl_s)

    async def answer(self, device_id: str, request: EscalationRequest, timeout_s: float) -> EscalationAnswer:
        """The full model's answer within `timeout_s` seconds.

        Raises:
            UnknownModel, InputError: it cannot be served as it is.
            AnotherPayload: the device used the request id for something else.
            Overloaded: no room.
            DeadlineExpired, EngineError: it was not computed.
        """
        served = self.models.get(request.model)
        if served is None:
            raise UnknownModel(f"model {request.model!r} is not served here; there is {', '.join(self.models)}")
        claim = self._claim(device_id, request, served, timeout_s)
        batched = await self._await(device_id, request.request_id, claim.value)
        return EscalationAnswer(
            request_id=request.request_id,
            model=served.model.identity,
            top=served.model.top(batched.logits, request.top_k),
            timings=batched.timings,
            replayed=not claim.fresh,
        )

    def _claim(
        self, device_id: str, request: EscalationRequest, served: ServedModel, timeout_s: float
    ) -> Claim[_Computation]:
        now_s = self._clock.monotonic_s()

        def compute() -> _Computation:
            token_ids = served.model.encoder.encode(request.text)
            return _Computation(served.batcher.submit(token_ids, request.priority, now_s + timeout_s))

        return self._computations.claim(device_id, request.request_id, _digest(request), now_s, compute)

    async def _await(self, device_id: str, request_id: str, computation: _Computation) -> BatchedLogits:
        computation.waiters += 1
        try:
            return await asyncio.shield(computation.result)
        finally:
            computation.waiters -= 1
            if not computation.result.done() and computation.waiters == 0:
                computation.result.cancel()
            if not _succeeded(computation.result):
                self._computations.forget(device_id, request_id, computation)


def _succeeded(result: asyncio.Future[BatchedLogits]) -> bool:
    return not result.done() or (not result.cancelled() and result.exception() is None)


def _digest(request: EscalationRequest) -> bytes:
    """What makes two requests the same: everything that decides the answer."""
    return hashlib.sha256(repr((request.model, request.text, request.top_k)).encode()).digest()
