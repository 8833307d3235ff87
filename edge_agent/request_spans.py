"""What a traced request says of its way through the device."""

from __future__ import annotations

from contextlib import AbstractContextManager

from starlette.types import Scope

from edge_agent.answers import InferenceAnswer, InferenceRequest
from shared.tracing import HEADER, TRACING, Kind, Stage

_HEADER = HEADER.encode()


def request_span(scope: Scope) -> AbstractContextManager[None]:
    """One HTTP request; it goes on with the trace that the application began."""
    parent = next((value for name, value in scope["headers"] if name == _HEADER), b"")
    attributes = {"http.request.method": scope["method"], "url.path": scope["path"]}
    name = f"{scope['method']} {scope['path']}"
    return TRACING.span(name, kind=Kind.SERVER, parent=parent.decode("latin-1"), attributes=attributes)


def answer_span(request: InferenceRequest) -> AbstractContextManager[None]:
    """One text of it."""
    return TRACING.span("answer", attributes={"tandem.route_asked": request.route.value})


def tell_of(answer: InferenceAnswer) -> None:
    """Where the time went on the device, what the gate said, and how it ended; a call to the cloud has its own span."""
    timings, gate = answer.timings, answer.gate
    stages = (
        Stage("encode", timings.preprocess),
        Stage("queue", timings.queue),
        Stage("inference", timings.inference),
    )
    TRACING.stages(stages, timings.total)
    decision: dict[str, str | float | bool] = {"keep": gate.keep, "score": gate.score, "reason": gate.reason.value}
    if gate.threshold is not None:
        decision["threshold"] = gate.threshold
    TRACING.event("gate", decision)
    TRACING.note(
        {
            "tandem.request_id": answer.request_id,
            "tandem.model": answer.model.name,
            "tandem.model_version": answer.model.version,
            "tandem.outcome": answer.outcome.value,
            "tandem.reason": answer.reason.value,
        }
    )
