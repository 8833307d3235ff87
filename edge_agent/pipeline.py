"""A request's way through the device: admit, compute, ask the gate, and keep or escalate."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import anyio
import numpy as np
from numpy.typing import NDArray

from edge_agent.accounting import RequestTicket
from edge_agent.admission import Admission
from edge_agent.answers import InferenceAnswer, InferenceRequest, Timings, refusal_of
from edge_agent.auditing import Auditor
from edge_agent.compute import Computed, ComputePool
from edge_agent.escalation.escalator import EscalationResult, Escalator
from edge_agent.lanes import Lane, Lanes
from edge_agent.model import EdgePrediction
from edge_agent.state.answers import RememberedAnswer, UnsavedAnswers
from shared.clock import Clock
from shared.errors import DeadlineExpired, TandemError, UnknownModel
from shared.types import EscalationRequest, Outcome, Priority, Reason, RequestedRoute

_NOT_ASKED = EscalationResult(None)


class Shadow(Protocol):
    """Who answers a share of a model's requests too, for nobody to see."""

    def offer(self, text: str, prediction: EdgePrediction, compute_ms: float) -> None:
        """`text` was answered so, the engine taking `compute_ms`. Returns at once and never fails."""
        ...


@dataclass(frozen=True)
class _Job:
    """An admitted request: its text is readable and there is room. Times are monotonic seconds."""

    request: InferenceRequest
    request_id: str
    lane: Lane
    token_ids: NDArray[np.int64]
    arrived_s: float
    encoded_s: float
    deadline_s: float


@dataclass(frozen=True)
class _Ending:
    """How a request ends, and what came of asking the cloud."""

    outcome: Outcome
    reason: Reason
    escalation: EscalationResult = _NOT_ASKED


class Pipeline:
    """Answers requests, each by itself and each counted once. Without an escalator the device is alone.

    Every answer is put into `memory` and, where it was kept, offered to the `auditor`, once it is decided.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        pool: ComputePool,
        admission: Admission,
        clock: Clock,
        *,
        default_deadline_ms: int,
        escalator: Escalator | None = None,
        reserve_ms: int = 0,
        auditor: Auditor | None = None,
        memory: UnsavedAnswers | None = None,
    ) -> None:
        self.lanes = Lanes(lanes)
        self.shadows: dict[str, Shadow] = {}
        self.escalator = escalator
        self.admission = admission
        self._pool = pool
        self._clock = clock
        self._default_deadline_ms = default_deadline_ms
        self._reserve_s = reserve_ms / 1e3
        self.auditor = auditor
        self._memory = memory

    async def answer(self, request: InferenceRequest) -> InferenceAnswer:
        """Answer one request within its deadline.

        Raises:
            UnknownModel, InputError, Overloaded, NotReady: not accepted, and counted as rejected.
            DeadlineExpired, EngineError: accepted, and counted as failed.
        """
        arrived_s = self._clock.monotonic_s()
        if pause := self.lanes.paused(request.model or self.lanes.first.model.identity.name):
            await self._wait_for_end(pause, request, arrived_s)
        job = self._admit(request, arrived_s)
        with self.admission, job.lane.ledger.accept(job.arrived_s) as ticket:
            computed = await self._compute(job)
            self.admission.observe(computed.compute_ms)
            prediction = computed.value
            ticket.predicted(prediction.label, prediction.decision.score, wanted=not prediction.decision.keep)
            ending = await self._keep_or_escalate(job, prediction, ticket)
            ticket.settle(ending.outcome, ending.reason)
            answer = self._answer_of(job, computed, ending)
        self._follow_up(job, computed, ending)
        return answer

    def reject_unreadable(self, model: str | None = None) -> None:
        """Count a request that could not be read; one that names no model here counts with the first's."""
        self.lanes.get(model or "", self.lanes.first).ledger.reject(Reason.BAD_INPUT)

    def _admit(self, request: InferenceRequest, arrived_s: float) -> _Job:
        request_id = request.request_id or uuid.uuid4().hex
        name = request.model or self.lanes.first.model.identity.name
        lane = self.lanes.lane_of(name, request.key or request_id)
        try:
            if lane is None:
                raise UnknownModel(f"model {request.model!r} is not here; there is {', '.join(self.lanes)}")
            self.admission.check()
            token_ids = lane.model.encode(request.text)
        except TandemError as error:
            (lane or self.lanes.first).ledger.reject(refusal_of(error).reason)
            raise
        return _Job(
            request=request,
            request_id=request_id,
            lane=lane,
            token_ids=token_ids,
            arrived_s=arrived_s,
            encoded_s=self._clock.monotonic_s(),
            deadline_s=self._deadline_s(request, arrived_s),
        )

    def _deadline_s(self, request: InferenceRequest, arrived_s: float) -> float:
        return arrived_s + (request.deadline_ms or self._default_deadline_ms) / 1e3

    async def _wait_for_end(self, pause: anyio.Event, request: InferenceRequest, arrived_s: float) -> None:
        """While a model is exchanged on a device with room for one. Takes a place, so that as many wait as may."""
        lane = self.lanes[request.model or self.lanes.first.model.identity.name]
        try:
            self.admission.check()
        except TandemError as error:
            lane.ledger.reject(refusal_of(error).reason)
            raise
        left_s = self._deadline_s(request, arrived_s) - self._clock.monotonic_s()
        with self.admission, anyio.move_on_after(left_s):
            await pause.wait()
            return
        with lane.ledger.accept(arrived_s):
            raise DeadlineExpired("the deadline passed while the model was being exchanged")

    async def _compute(self, job: _Job) -> Computed[EdgePrediction]:
        """Counted on its way, so that who wants to unload the model knows when nobody needs it any more."""
        model = job.lane.model
        self.lanes.begin_computing(model)
        try:
            return await self._pool.run(
                lambda: model.predict(job.token_ids, job.request.top_k), job.deadline_s, model.kind
            )
        finally:
            self.lanes.end_computing(model)

    async def _keep_or_escalate(self, job: _Job, prediction: EdgePrediction, ticket: RequestTicket) -> _Ending:
        route, decision, budget = job.request.route, prediction.decision, job.lane.control.budget
        budget.accepted()
        if route is RequestedRoute.EDGE:
            return _Ending(Outcome.EDGE, Reason.REQUESTED)
        if route is RequestedRoute.AUTO and decision.keep:
            return _Ending(Outcome.EDGE, decision.reason)
        why = Reason.REQUESTED if route is RequestedRoute.CLOUD else decision.reason
        if self.escalator is None:
            return _Ending(Outcome.DEGRADED, Reason.NO_CLOUD)
        may_keep = route is RequestedRoute.AUTO and prediction.within_budget
        if may_keep and (budget.is_over or self.escalator.is_pressed) and self.escalator.is_hopeful:
            return _Ending(Outcome.EDGE, Reason.BUDGET)
        if not decision.keep:
            budget.escalated()
        budget_s = job.deadline_s - self._reserve_s - self._clock.monotonic_s()
        result = await self.escalator.escalate(ticket, _escalation(job, prediction, why), budget_s)
        if result.refusal is Reason.CLOUD_OVERLOADED and may_keep and self.escalator.is_pressed:
            return _Ending(Outcome.EDGE, Reason.BUDGET, result)
        if result.refusal is not None:
            return _Ending(Outcome.DEGRADED, result.refusal, result)
        return _Ending(Outcome.CLOUD, why, result)

    def _follow_up(self, job: _Job, computed: Computed[EdgePrediction], ending: _Ending) -> None:
        kept, prediction = ending.reason is Reason.CONFIDENT, computed.value
        lane = job.lane
        if shadow := self.shadows.get(lane.model.identity.name):
            shadow.offer(job.request.text, prediction, computed.compute_ms)
        if self._memory is not None:
            identity, decision = lane.model.identity, prediction.decision
            self._memory.remember(
                RememberedAnswer(
                    job.request_id,
                    identity.name,
                    identity.version,
                    lane.model.gate_digest,
                    prediction.label,
                    prediction.confidence,
                    decision.score,
                    kept,
                    round(self._clock.unix_s() * 1e3),
                )
            )
        if kept and self.auditor is not None and self.auditor.draws(lane.control.audit_share):
            audit = _escalation(job, prediction, ending.reason, kept=True)
            self.auditor.send(lane.ledger.judgements, audit)

    def _answer_of(self, job: _Job, computed: Computed[EdgePrediction], ending: _Ending) -> InferenceAnswer:
        cloud = ending.escalation.answer
        return InferenceAnswer(
            request_id=job.request_id,
            outcome=ending.outcome,
            reason=ending.reason,
            model=cloud.model if cloud else job.lane.model.identity,
            top=cloud.top if cloud else computed.value.top,
            gate_score=job.lane.model.gate_score,
            gate=computed.value.decision,
            timings=Timings(
                total=(self._clock.monotonic_s() - job.arrived_s) * 1e3,
                preprocess=(job.encoded_s - job.arrived_s) * 1e3,
                queue=computed.queue_ms,
                inference=computed.compute_ms,
                cloud=ending.escalation.round_trip_ms,
                cloud_queue=cloud.timings.queue_ms if cloud else None,
                cloud_compute=cloud.timings.compute_ms if cloud else None,
            ),
        )


def _escalation(job: _Job, prediction: EdgePrediction, why: Reason, *, kept: bool = False) -> EscalationRequest:
    """`kept`: an audit, for which the best label is enough."""
    identity = job.lane.model.identity
    return EscalationRequest(
        request_id=job.request_id,
        model=identity.name,
        text=job.request.text,
        top_k=1 if kept else job.request.top_k,
        priority=Priority.AUDIT if kept else Priority.INTERACTIVE,
        edge_model_version=identity.version,
        edge_label=prediction.label,
        edge_score=prediction.confidence,
        reason=why,
        gate_score=prediction.decision.score,
        gate_digest=job.lane.model.gate_digest,
        kept=kept,
    )
