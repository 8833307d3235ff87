"""Answers one escalated request, whatever protocol it came by: once, in time, with the model that it names."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cloud_service.gateway.idempotency import IdempotencyTable, Remembered, RequestKey, payload_digest
from cloud_service.serving.batcher import BatchedLogits, Batcher, Ticket
from cloud_service.serving.model import FullModel
from shared.clock import Clock
from shared.errors import DeadlineExpired, EngineError, TandemError, UnknownModel
from shared.types import EscalationAnswer, EscalationRequest


@dataclass(frozen=True)
class ServedModel:
    """A model with the batcher before it."""

    model: FullModel
    batcher: Batcher


@dataclass(eq=False)
class _Computation:
    """One request in the batcher, with a future for every copy of it that waits."""

    key: RequestKey
    request: EscalationRequest
    served: ServedModel
    ticket: Ticket
    callers: set[asyncio.Future[EscalationAnswer]] = field(default_factory=set)

    def waiting(self) -> list[asyncio.Future[EscalationAnswer]]:
        """The callers that can still be told."""
        return [caller for caller in self.callers if not caller.done()]


class InferenceDesk:
    """Takes requests of authenticated devices to the batchers. Use on one event loop."""

    def __init__(
        self, models: Mapping[str, ServedModel], clock: Clock, *, idempotency_entries: int, idempotency_ttl_s: float
    ) -> None:
        """`models` by name. At most `idempotency_entries` answers are remembered, each for `idempotency_ttl_s`."""
        self.models = models
        self._table: IdempotencyTable[_Computation, EscalationAnswer] = IdempotencyTable(
            idempotency_entries, idempotency_ttl_s
        )
        self._clock = clock

    async def answer(self, device_id: str, request: EscalationRequest, timeout_s: float) -> EscalationAnswer:
        """The full model's answer to a device within `timeout_s` seconds.

        A copy of a request that was answered, or is being computed, gets that answer, marked `replayed`. A
        cancelled caller takes its request out of the line, unless another copy waits for it.

        Raises:
            UnknownModel: no such model is served.
            InputError: the text cannot be served.
            RequestIdReused: the device used the id for another payload.
            Overloaded: there is no room.
            DeadlineExpired: the time passed before the model had run.
            EngineError: the model failed on this text.
            NotReady: the service is shutting down.
        """
        deadline_s = self._clock.monotonic_s() + timeout_s
        served = self._served(request.model)
        key, digest = RequestKey(device_id, request.request_id), payload_digest(request)
        while True:
            found = self._table.find(key, digest, self._clock.monotonic_s())
            if isinstance(found, Remembered):
                return replace(found.answer, replayed=True)
            if self._clock.monotonic_s() >= deadline_s:
                raise DeadlineExpired("the deadline passed before the model could run")
            if found is None:
                return await self._wait_for(self._begin(served, key, digest, request, deadline_s), deadline_s)
            try:
                return replace(await self._wait_for(found.computation, deadline_s), replayed=True)
            except DeadlineExpired:
                if self._clock.monotonic_s() >= deadline_s:
                    raise
                # The earlier copy had less time than this one, which now goes on by itself.

    def _served(self, name: str) -> ServedModel:
        try:
            return self.models[name]
        except KeyError:
            raise UnknownModel(f"model {name!r} is not served here; there is {', '.join(self.models)}") from None

    def _begin(
        self, served: ServedModel, key: RequestKey, digest: bytes, request: EscalationRequest, deadline_s: float
    ) -> _Computation:
        token_ids = served.model.encoder.encode(request.text)
        ticket = served.batcher.submit(token_ids, request.priority, deadline_s)
        computation = _Computation(key, request, served, ticket)
        self._table.begin(key, digest, computation)
        ticket.result.add_done_callback(lambda _: self._settle(computation))
        return computation

    async def _wait_for(self, computation: _Computation, deadline_s: float) -> EscalationAnswer:
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[EscalationAnswer] = loop.create_future()
        alarm = loop.call_later(deadline_s - self._clock.monotonic_s(), _expire, mine)
        computation.callers.add(mine)
        try:
            return await mine
        finally:
            alarm.cancel()
            computation.callers.discard(mine)
            if not computation.callers and not computation.ticket.result.done():
                self._give_up(computation)

    def _give_up(self, computation: _Computation) -> None:
        """Nobody waits any more. What is being computed already goes on, and is remembered for who asks again."""
        if computation.served.batcher.withdraw(computation.ticket):
            self._table.forget(computation.key)

    def _settle(self, computation: _Computation) -> None:
        """Remember and hand out the answer, or hand out what went wrong; nothing of what was withdrawn."""
        result = computation.ticket.result
        if result.cancelled():
            return
        try:
            answer = _answer(computation, result.result())
        except Exception as error:  # noqa: BLE001 - callers wait: whatever failed, they are told
            problem = error if isinstance(error, TandemError) else EngineError(f"the answer cannot be made: {error!r}")
            self._table.forget(computation.key)
            for caller in computation.waiting():
                caller.set_exception(problem)
            return
        self._table.finish(computation.key, answer, self._clock.monotonic_s())
        for caller in computation.waiting():
            caller.set_result(answer)


def _answer(computation: _Computation, computed: BatchedLogits) -> EscalationAnswer:
    model, request = computation.served.model, computation.request
    return EscalationAnswer(
        request_id=request.request_id,
        model=model.identity,
        top=model.top(computed.logits, request.top_k),
        timings=computed.timings,
    )


def _expire(caller: asyncio.Future[EscalationAnswer]) -> None:
    if not caller.done():
        caller.set_exception(DeadlineExpired("the deadline passed before the model had run"))
