"""The port to the cloud without a network: answers, errors and waits that a test scripts."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from shared.errors import CloudTimedOut, EscalationError
from shared.types import CloudTimings, EscalationAnswer, EscalationRequest, LabelScore, ModelIdentity, TrueLabel


class FakeCloud:
    """Implements `CloudClient` and `LabelClient`.

    `error` set: every call ends with it. `gate` set: calls for answers wait for it.
    """

    def __init__(self, label: str = "loan") -> None:
        self.label = label
        self.error: EscalationError | None = None
        self.gate: anyio.Event | None = None
        self.requests: list[EscalationRequest] = []
        self.timeouts_s: list[float] = []
        self.true_labels: list[TrueLabel] = []

    async def infer(self, request: EscalationRequest, timeout_s: float) -> EscalationAnswer:
        self.requests.append(request)
        self.timeouts_s.append(timeout_s)
        if self.gate is not None:
            with anyio.move_on_after(timeout_s) as waiting:
                await self.gate.wait()
            if waiting.cancelled_caught:
                raise CloudTimedOut("the gate stayed shut")
        if self.error is not None:
            raise self.error
        identity = ModelIdentity(request.model, "9.0.0", "f" * 64)
        return EscalationAnswer(
            request.request_id, identity, (LabelScore(self.label, 0.97),), CloudTimings(0.5, 1.5, 3.0, 2)
        )

    async def report_labels(self, labels: Sequence[TrueLabel], timeout_s: float) -> None:
        if self.error is not None:
            raise self.error
        self.true_labels += labels
