"""Audits: a random share of the kept answers is asked of the cloud as well, behind the caller's back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType

import anyio

from edge_agent.config import AuditSettings
from edge_agent.escalation.escalator import Escalator
from edge_agent.judgements import AuditTicket, Judgements
from shared.errors import EscalationError
from shared.types import EscalationRequest

_log = logging.getLogger(__name__)


class Auditor:
    """Sends audits while its `async with` block runs, as many at once as there is room for, each once.

    What finds no room, or no cloud, is chosen and failed: it is counted and never tried again.
    """

    def __init__(self, escalator: Escalator | None, settings: AuditSettings, uniform: Callable[[], float]) -> None:
        """`uniform` gives random numbers in [0, 1)."""
        self._escalator = escalator
        self._max_in_flight = settings.max_in_flight
        self._timeout_s = settings.timeout_ms / 1e3
        self._uniform = uniform
        self._tasks = anyio.create_task_group()
        self._open: dict[AuditTicket, anyio.CancelScope] = {}
        self._is_closed = False
        self._all_ended = anyio.Event()

    async def __aenter__(self) -> Auditor:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_up()
        await self._tasks.__aexit__(None, None, None)

    def draws(self, share: float) -> bool:
        """Whether the answer just given is one of the `share` to be audited."""
        return share > 0.0 and self._uniform() < share

    def send(self, judgements: Judgements, request: EscalationRequest) -> None:
        """Audit a kept answer, whose request is made out as an audit. Returns at once."""
        ticket = judgements.choose_audit(request.edge_label, request.gate_score)
        if self._escalator is None or self._is_closed or len(self._open) >= self._max_in_flight:
            ticket.failed()
            return
        self._open[ticket] = anyio.CancelScope()
        self._tasks.start_soon(self._audit, self._escalator, ticket, request)

    async def drain(self, timeout_s: float) -> None:
        """Let the audits under way end within `timeout_s`; what is left counts as failed."""
        self._is_closed = True
        if self._open:
            with anyio.move_on_after(timeout_s):
                await self._all_ended.wait()
        self.give_up()

    def give_up(self) -> None:
        """Send no more; what is under way is cancelled and counts as failed."""
        self._is_closed = True
        for ticket, scope in self._open.items():
            scope.cancel()
            ticket.failed()

    async def _audit(self, escalator: Escalator, ticket: AuditTicket, request: EscalationRequest) -> None:
        try:
            with self._open[ticket]:
                ticket.judged((await escalator.audit(request, self._timeout_s)).top[0].label)
        except EscalationError as error:
            _log.debug("audit %s: %s", request.request_id, error)
        except Exception:  # noqa: BLE001 - an audit must harm no answer, whatever breaks in it
            _log.exception("audit %s", request.request_id)
        finally:
            ticket.failed()
            self._open.pop(ticket, None)
            if self._is_closed and not self._open:
                self._all_ended.set()
