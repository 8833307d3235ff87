"""When the cloud is asked, and what each ending teaches. Knows no gRPC."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

from edge_agent.accounting import RequestTicket
from edge_agent.escalation.breaker import BreakerState, CircuitBreaker, Permit
from shared.clock import Clock
from shared.errors import CloudOverloaded, CloudRefused, CloudTimedOut, CloudUnavailable, EscalationError
from shared.types import EscalationAnswer, EscalationRequest, Reason

_log = logging.getLogger(__name__)
_REASONS: dict[type[EscalationError], Reason] = {
    CloudUnavailable: Reason.CLOUD_UNAVAILABLE,
    CloudTimedOut: Reason.CLOUD_TIMED_OUT,
    CloudOverloaded: Reason.CLOUD_OVERLOADED,
    CloudRefused: Reason.CLOUD_REFUSED,
}
_FAIR_CHANCE_S = 0.25
"""A call that was given less says nothing of the cloud when it times out: the caller was in a hurry."""
_LONGEST_RETRY_HINT_S = 60.0


class CloudClient(Protocol):
    """The port to the cloud."""

    async def infer(self, request: EscalationRequest, timeout_s: float) -> EscalationAnswer:
        """Ask the full model; `timeout_s` seconds travel along as the deadline.

        Raises:
            CloudUnavailable, CloudTimedOut, CloudOverloaded, CloudRefused: it did not answer.
        """
        ...


@dataclass(frozen=True)
class EscalationResult:
    """The cloud's answer, or why there is none. `round_trip_ms` is None where the cloud was not asked."""

    answer: EscalationAnswer | None
    refusal: Reason | None = None
    round_trip_ms: float | None = None


class Escalator:
    """Asks the cloud where there is hope: room, time, a closed breaker, and no request of it to wait."""

    def __init__(
        self, client: CloudClient, breaker: CircuitBreaker, clock: Clock, *, timeout_s: float, max_in_flight: int
    ) -> None:
        self._client = client
        self._breaker = breaker
        self._clock = clock
        self._timeout_s = timeout_s
        self._max_in_flight = max_in_flight
        self._in_flight = 0
        self._was_closed = True
        self._not_before_s = float("-inf")
        self._no_audit_before_s = float("-inf")

    @property
    def is_pressed(self) -> bool:
        """Whether the cloud had no room of late, and asked not to be asked before a time that is not over."""
        return self._clock.monotonic_s() < self._not_before_s

    @property
    def is_hopeful(self) -> bool:
        """Whether the way to the cloud is not given up for now."""
        return self.link_state() is not BreakerState.OPEN

    def link_state(self) -> BreakerState:
        """The breaker's state now."""
        return self._breaker.state(self._clock.monotonic_s())

    async def escalate(self, ticket: RequestTicket, request: EscalationRequest, budget_s: float) -> EscalationResult:
        """Ask the cloud within `budget_s` seconds, and never longer than the configured timeout.

        Nothing is raised for a cloud that is not had; the result says why.
        """
        permit = self._permit(budget_s)
        if isinstance(permit, Reason):
            return EscalationResult(None, permit)
        began_s = self._clock.monotonic_s()
        self._in_flight += 1
        try:
            with ticket.call():
                answer = await self._call(permit, request, min(budget_s, self._timeout_s))
        except EscalationError as error:
            self._tell_of_change(str(error))
            return EscalationResult(None, _REASONS[type(error)], self._since_ms(began_s))
        finally:
            self._in_flight -= 1
        self._tell_of_change("the cloud answers")
        return EscalationResult(answer, None, self._since_ms(began_s))

    async def audit(self, request: EscalationRequest, timeout_s: float) -> EscalationAnswer:
        """Ask the cloud for an audit, without a try where there is no hope: the breaker must be closed.

        An audit waits behind everyone else, so one that is late or finds no room says nothing of the way to the cloud.

        Raises:
            CloudUnavailable, CloudTimedOut, CloudOverloaded, CloudRefused: there is no answer.
        """
        now_s = self._clock.monotonic_s()
        wait_s = max(self._not_before_s, self._no_audit_before_s) - now_s
        if wait_s > 0:
            raise CloudOverloaded("the cloud asked not to be asked yet", wait_s)
        permit = self._breaker.acquire(now_s) if self._breaker.state(now_s) is BreakerState.CLOSED else None
        if permit is None:
            raise CloudUnavailable("the way to the cloud is given up for now")
        try:
            answer = await self._client.infer(request, timeout_s)
        except CloudUnavailable:
            self._breaker.failed(permit, self._clock.monotonic_s())
            raise
        except CloudOverloaded as error:
            retry_after_s = min(error.retry_after_s, _LONGEST_RETRY_HINT_S)
            self._no_audit_before_s = self._clock.monotonic_s() + retry_after_s
            raise
        self._breaker.succeeded(permit)
        return answer

    def _permit(self, budget_s: float) -> Permit | Reason:
        now_s = self._clock.monotonic_s()
        if budget_s <= 0:
            return Reason.DEADLINE
        if now_s < self._not_before_s or self._in_flight >= self._max_in_flight:
            return Reason.CLOUD_OVERLOADED
        return self._breaker.acquire(now_s) or Reason.CIRCUIT_OPEN

    async def _call(self, permit: Permit, request: EscalationRequest, timeout_s: float) -> EscalationAnswer:
        try:
            answer = await self._client.infer(request, timeout_s)
        except CloudUnavailable:
            self._breaker.failed(permit, self._clock.monotonic_s())
            raise
        except CloudTimedOut:
            if timeout_s >= min(self._timeout_s, _FAIR_CHANCE_S):
                self._breaker.failed(permit, self._clock.monotonic_s())
            else:
                self._breaker.abandoned(permit)
            raise
        except CloudOverloaded as error:
            self._breaker.succeeded(permit)
            self._not_before_s = self._clock.monotonic_s() + min(error.retry_after_s, _LONGEST_RETRY_HINT_S)
            raise
        except CloudRefused:
            self._breaker.succeeded(permit)
            raise
        except BaseException:
            self._breaker.abandoned(permit)
            raise
        self._breaker.succeeded(permit)
        return answer

    def _tell_of_change(self, why: str) -> None:
        is_closed = self.link_state() is BreakerState.CLOSED
        if is_closed != self._was_closed:
            self._was_closed = is_closed
            _log.warning("the way to the cloud is %s: %s", "open again" if is_closed else "given up for now", why)

    def _since_ms(self, began_s: float) -> float:
        return (self._clock.monotonic_s() - began_s) * 1e3
